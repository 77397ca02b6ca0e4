"""Things that are slow to make and equal every time, kept between test runs by the content of their recipe."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock


def cache_root() -> Path:
    """``$OPENLATHE_TEST_CACHE``, else ``.cache/openlathe`` in the outermost project that the working folder is in."""
    if chosen := os.environ.get("OPENLATHE_TEST_CACHE"):
        return Path(chosen)
    here = Path.cwd()
    projects = [folder for folder in (here, *here.parents) if (folder / "pyproject.toml").is_file()]
    return (projects[-1] if projects else here) / ".cache" / "openlathe"


def cached(name: str, recipe: Mapping[str, Any], build: Callable[[Path], None]) -> Path:
    """The folder that ``build`` filled for this ``recipe`` (JSON-able), now or in an earlier run; only to be read.

    Processes that ask at once wait for the one that builds, and a build that is killed leaves nothing behind.
    """
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_root() / f"{name}-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder.parent))
            try:
                build(scratch)
                scratch.rename(folder)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
    return folder


def source_hash(*modules: Any) -> str:
    """A hash of the source files of ``modules``: the part of a recipe that is written as code."""
    return hashlib.sha256(b"".join(Path(module.__file__).read_bytes() for module in modules)).hexdigest()
