"""How much work a parser does, in numbers that are the same on every machine: no clock is read."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from types import BuiltinFunctionType, FrameType, FunctionType, ModuleType
from typing import Any


def lines_executed(action: Callable[[], object]) -> int:
    """The lines of Python that ``action`` runs."""
    count = 0

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before, collects = sys.gettrace(), gc.isenabled()
    gc.disable()  # a collection may run anybody's callbacks
    sys.settrace(trace)
    try:
        action()
    finally:
        sys.settrace(before)
        if collects:
            gc.enable()
    return count


def retained_characters(*roots: object) -> int:
    """The characters of all strings and bytes that can be reached from ``roots``, code and modules apart.

    What an object does not keep it cannot read again, in Python or in C: a parser whose answer to this stays the same
    while a text streams through it does not go through that text twice.
    """
    seen: set[int] = set()
    waiting: list[Any] = list(roots)
    total = 0
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, (type, ModuleType)):
            continue
        seen.add(id(item))
        if isinstance(item, (str, bytes, bytearray)):
            total += len(item)
        elif isinstance(item, FunctionType):
            waiting += item.__closure__ or ()
        elif isinstance(item, BuiltinFunctionType):
            waiting.append(item.__self__)
        else:
            waiting += gc.get_referents(item)
    return total
