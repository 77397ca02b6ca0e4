"""Calls of native operators: run at once and, where a step is being captured, noted as well.

An operator takes the address of one structure, all of whose members are eight bytes wide, and is run by a team of
threads; see native/team.h.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import byref, c_double, c_int64, c_void_p
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from .loading import native

#: What of a capture an operator meets: where its outputs lie, and who is told of its calls; see :mod:`.capture`.
Allocate = Callable[[Sequence[int], torch.dtype], Tensor]
Note = Callable[[int, ctypes.Structure, bool], None]
#: Elements from which work is worth more than one thread's attention.
SHARED = 8 * 1024


class _Thread(threading.local):
    """Every engine computes in a thread of its own, and captures what that thread does."""

    def __init__(self) -> None:
        self.allocate: Allocate | None = None
        self.note: Note | None = None


_thread = _Thread()


def arguments(name: str, *, pointers: str, integers: str = "", reals: str = "") -> Callable[..., ctypes.Structure]:
    """The structure ``name`` of the C++ source: names of its members, pointers before integers before reals."""
    members: list[tuple[str, Any]] = [(member, c_void_p) for member in pointers.split()]
    members += [(member, c_int64) for member in integers.split()]
    members += [(member, c_double) for member in reals.split()]
    return type(name, (ctypes.Structure,), {"_fields_": members})


def empty(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Memory for an operator's output. Operators take it from nowhere else, so that a captured step keeps its own."""
    allocate = _thread.allocate
    return torch.empty(shape, dtype=dtype) if allocate is None else allocate(shape, dtype)


class Operator(Protocol):
    """Runs on ``given``, in one thread where it is to do so ``alone``."""

    def __call__(self, given: ctypes.Structure, alone: bool = False) -> None: ...


def operator(name: str) -> Operator:
    """The operator that the native library calls ``name``."""
    return partial(_call, native().address(name))


def _call(address: int, given: ctypes.Structure, alone: bool = False) -> None:
    native().run_one(address, byref(given), 1 if alone else torch.get_num_threads())
    if _thread.note is not None:
        _thread.note(address, given, alone)


@contextmanager
def capturing(allocate: Allocate, note: Note) -> Iterator[None]:
    """In this thread outputs come from ``allocate`` and calls are told to ``note``."""
    _thread.allocate, _thread.note = allocate, note
    try:
        yield
    finally:
        _thread.allocate = _thread.note = None
