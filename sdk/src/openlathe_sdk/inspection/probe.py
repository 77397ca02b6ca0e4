"""Imports modules in a fresh interpreter and tells what that did to it.

Run as a script, so that nothing of the kit is imported before: ``python probe.py MODULE...`` prints JSON.
"""

from __future__ import annotations

import functools
import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import warnings
from typing import Any


@functools.cache
def probe(*modules: str) -> dict[str, Any]:
    """``imported``: the modules that importing ``modules`` brought in; ``effects``: what else it changed, in words."""
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, __file__, *modules]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    if result.returncode:
        return {"imported": [], "effects": [f"importing fails: {result.stderr.strip().splitlines()[-1]}"]}
    return json.loads(result.stdout.splitlines()[-1])


def main(modules: list[str]) -> None:
    import openlathe.spi  # noqa: F401  (what the contract itself imports is not the plugin's doing)

    known, before = set(sys.modules), _state()
    written = _import(modules)
    after = _state()
    effects = [f"changes {name}" for name in before if before[name] != after[name]]
    effects += ["prints to standard output"] if written else []
    sys.stdout.write("\n" + json.dumps({"imported": sorted(set(sys.modules) - known), "effects": effects}))


def _import(modules: list[str]) -> bool:
    """Whether anything was printed meanwhile."""
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for module in modules:
            importlib.import_module(module)
    return bool(printed.getvalue())


def _state() -> dict[str, Any]:
    """What an import has no business to touch."""
    root = logging.getLogger()
    return {
        "the environment": dict(os.environ),
        "the working folder": os.getcwd(),
        "the root logger": (root.level, list(root.handlers), logging.root.manager.disable),
        "the running threads": sorted(thread.name for thread in threading.enumerate()),
        "signal handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "the module search path": list(sys.path),
        "warning filters": list(warnings.filters),
        "the exception hook": sys.excepthook,
    }


if __name__ == "__main__":
    main(sys.argv[1:])
