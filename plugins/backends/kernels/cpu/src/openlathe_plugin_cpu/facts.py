"""When the operators here can serve, without torch."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from openlathe.spi import KernelQuery

from . import build


@cache
def best_level() -> build.Level:
    """The best instruction set that this CPU has."""
    return next(level for level in build.levels() if level.needs <= _features())


def refuse(query: KernelQuery) -> tuple[str, ...]:
    """Refuses where nothing was compiled, or for another system than this one."""
    reason = build.why_missing()
    return (reason,) if reason else ()


def refuse_attention(query: KernelQuery) -> tuple[str, ...]:
    """Keys and values are read as they lie, in the dtype of the queries or rounded to int8."""
    if query.kv_dtype not in (query.dtype, "int8"):
        return (f"it reads a cache of {query.dtype} or int8, not of {query.kv_dtype}",)
    return refuse(query)


@cache
def _features() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    flags = re.search(r"^flags\s*: (.+)$", text, re.MULTILINE)
    return frozenset(flags[1].split() if flags else ())
