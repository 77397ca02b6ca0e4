"""Memory for a weight on its way from a file to the form its operator keeps."""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor


class Staging:
    """One piece of memory for one weight after the other: fresh memory costs more than what is done with it.

    A tensor that is still in use when the next one is asked for keeps what it has, and the next one gets new memory.
    """

    def __init__(self) -> None:
        self._memory: mmap.mmap | None = None
        self._in_use: weakref.ref[memoryview] | None = None

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A tensor on the CPU, of undefined content."""
        size = prod(shape) * dtype.itemsize
        if not size:
            return torch.empty(shape, dtype=dtype)
        if self._memory is None or len(self._memory) < size or (self._in_use is not None and self._in_use()):
            self._memory = anonymous(size)
        view = memoryview(self._memory)[:size]
        self._in_use = weakref.ref(view)
        return torch.frombuffer(view, dtype=dtype).view(shape)


def anonymous(size: int) -> mmap.mmap:
    """``size`` bytes of memory of this process alone, in large pages where the system has them."""
    if not hasattr(mmap, "MAP_PRIVATE"):  # Windows
        return mmap.mmap(-1, size)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
