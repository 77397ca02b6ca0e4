"""The lock file: exactly which plugins may be loaded, by version and by a hash over the content of their files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..spi.errors import ConfigError, PluginError
from .discover import CORE, Candidate

SCHEMA = 1
#: Of a distribution's metadata only what decides how it behaves; the rest differs from one installation to the next.
_METADATA_FILES = {"METADATA", "entry_points.txt"}


def write_lock(path: Path, candidates: Iterable[Candidate]) -> dict[str, Any]:
    """Writes what is installed now, of the candidates that may load; returns the content."""
    content = {"schema": SCHEMA, "distributions": describe(candidates)}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return content


def verify_lock(path: Path, candidates: Iterable[Candidate]) -> None:
    """Raises ``PluginError`` for the first difference between the lock file and what would be loaded."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        locked, schema = dict(content["distributions"]), content["schema"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"--locked: {path} cannot be read ({error}); `core plugins lock {path}` writes it.") from None
    if schema != SCHEMA:
        raise ConfigError(f"--locked: {path} has schema {schema} and this core writes {SCHEMA}; lock again.")
    found = describe(candidates)
    for name in sorted(locked.keys() | found.keys()):
        if difference := _difference(locked.get(name), found.get(name)):
            raise PluginError(
                f"--locked: {name} {difference}; install what {path} says or lock again.", distribution=name
            )


def describe(candidates: Iterable[Candidate]) -> dict[str, dict[str, str]]:
    """Distribution -> version, origin and hash, for core and every distribution among the candidates."""
    described: dict[str, dict[str, str]] = {}
    for candidate in candidates:
        if candidate.distribution not in described:
            described[candidate.distribution] = {
                "version": candidate.version,
                "origin": candidate.origin,
                "sha256": content_hash(candidate),
            }
    if CORE not in described:
        raise PluginError(f"{CORE} is not installed as a distribution, so nothing can be locked.", distribution=CORE)
    return dict(sorted(described.items()))


def content_hash(candidate: Candidate) -> str:
    """sha256 over the names and contents of all files of the distribution, compiled ones excepted."""
    total = hashlib.sha256()
    for name, path in sorted(_files(candidate)):
        total.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def _files(candidate: Candidate) -> Iterator[tuple[str, Path]]:
    """The files an installer recorded; for an editable installation, whose record is empty, those of its package."""
    if candidate.origin != "editable":
        for file in metadata.distribution(candidate.distribution).files or ():
            inside = file.parts[0].endswith(".dist-info")
            if ".." in file.parts or file.suffix == ".pyc" or (inside and file.name not in _METADATA_FILES):
                continue
            yield file.as_posix(), Path(str(file.locate()))
        return
    top = candidate.value.partition(":")[0].partition(".")[0]
    spec = find_spec(top)  # finds a top-level package without importing it
    for folder in map(Path, (spec and spec.submodule_search_locations) or ()):
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                yield path.relative_to(folder.parent).as_posix(), path


def _difference(locked: dict[str, str] | None, found: dict[str, str] | None) -> str | None:
    if locked is None:
        return "is installed and not in the lock file"
    if found is None:
        return f"{locked['version']} is in the lock file and would not be loaded"
    if locked["version"] != found["version"]:
        return f"is locked at {locked['version']} and {found['version']} is installed"
    if locked["origin"] != found["origin"]:
        return f"is locked as installed from {locked['origin']!r} and comes from {found['origin']!r}"
    if locked["sha256"] != found["sha256"]:
        return f"{locked['version']} has other content than when it was locked"
    return None
