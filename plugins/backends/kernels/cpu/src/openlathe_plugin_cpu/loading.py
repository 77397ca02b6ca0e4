"""The native library of the best instruction set that this CPU has, loaded once."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from ctypes import c_float, c_int, c_long, c_void_p
from functools import cache
from pathlib import Path
from typing import Any

import torch

from . import build
from .facts import best_level

#: What stands for a type in :data:`FUNCTIONS`.
_TYPES = {"p": c_void_p, "l": c_long, "i": c_int, "f": c_float}
#: Functions with the types of their arguments and of their answer, in the order of the C declaration.
FUNCTIONS: dict[str, tuple[str, str]] = {
    "run": ("pli", ""),
    "run_one": ("ppi", ""),
    "packed_columns": ("ll", "l"),
    "int8_bytes": ("ll", "l"),
    "int8_outputs": ("l", "l"),
    "pack_int8": ("pllpi", ""),
    "int4_bytes": ("llli", "l"),
    "pack_int4": ("ppplllpi", ""),
}


class Library:
    """The functions of one native library, by their names."""

    def __init__(self, path: Path) -> None:
        _share_threads()
        self._loaded = ctypes.CDLL(str(path))
        self._addresses: dict[str, int] = {}
        self.path = path

    def __getattr__(self, name: str) -> Callable[..., Any]:
        arguments, answer = FUNCTIONS[name]
        function = getattr(self._loaded, name)
        function.argtypes = [_TYPES[letter] for letter in arguments]
        function.restype = _TYPES[answer] if answer else None
        setattr(self, name, function)
        return function

    def address(self, name: str) -> int:
        """Of the operator ``name``, for ``run`` and ``run_one``."""
        if name not in self._addresses:
            self._addresses[name] = ctypes.cast(getattr(self._loaded, name), c_void_p).value or 0
        return self._addresses[name]


@cache
def native() -> Library:
    """Raises ``RuntimeError`` where :mod:`.facts` would have refused."""
    if reason := build.why_missing():
        raise RuntimeError(f"The native operators cannot be used: {reason}.")
    return Library(build.binary(best_level()))


def _share_threads() -> None:
    """Makes torch's OpenMP runtime, whatever it is called, the one that libraries loaded from now on find."""
    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    loaded = {line.split(maxsplit=5)[5] for line in maps if line.count("/") > 0 and len(line.split(maxsplit=5)) == 6}
    named = sorted(path for path in loaded if Path(path).name.startswith(("libgomp", "libiomp5")))
    torch_s = Path(torch.__file__).parent.parent
    chosen = next((path for path in named if Path(path).is_relative_to(torch_s)), named[0] if named else "libgomp.so.1")
    ctypes.CDLL(chosen, mode=ctypes.RTLD_GLOBAL)
