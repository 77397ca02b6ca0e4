"""Capturing a step: the calls of native operators in their order, and memory for what passes between them.

A replay runs them all in one parallel region. What a step allocates while it is captured comes from memory that all
captures of a thread share, because only one runs at a time: a tensor's place is taken again once the tensor is gone, by
the same call as in every replay.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from ctypes import addressof, c_int64, c_void_p
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from openlathe.kernels.capture import Capture

from .calls import capturing
from .loading import native

#: A cache line, at which every tensor begins.
ALIGNMENT = 64


class Memory:
    """Blocks of powers of two bytes, each in use by one tensor of the step that is being captured, or by none."""

    def __init__(self) -> None:
        self._blocks: dict[int, list[NDArray[np.uint8]]] = defaultdict(list)
        self._free: dict[int, list[NDArray[np.uint8]]] = {}

    def open(self) -> None:
        """Another capture begins: whatever earlier ones used may be used again."""
        self._free = {size: list(blocks) for size, blocks in self._blocks.items()}

    def allocate(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A tensor whose place is free again as soon as nobody holds it or a view of it."""
        wanted = max(int(np.prod(shape)) * dtype.itemsize, 1)
        size = 1 << (wanted - 1).bit_length()
        free = self._free.setdefault(size, [])
        block = free.pop() if free else self._new(size)
        part = block[:wanted]  # an object of its own, that dies with the tensor
        weakref.finalize(part, free.append, block).atexit = False
        return torch.from_numpy(part).view(dtype).view(shape)

    def _new(self, size: int) -> NDArray[np.uint8]:
        memory = np.empty(size + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        self._blocks[size].append(memory[start : start + size])
        return self._blocks[size][-1]


#: An operator's address, its arguments, and whether one thread runs it.
Noted = tuple[int, ctypes.Structure, bool]


class Call(ctypes.Structure):
    """``Call`` of native/run.cpp."""

    _fields_ = (("run", c_void_p), ("arguments", c_void_p), ("alone", c_int64))


class Replay:
    """Calls that are run again, and what they put out: a view of memory that later captures use as well."""

    def __init__(self, calls: Sequence[Noted], output: Tensor) -> None:
        self._arguments = [given for _, given, _ in calls]
        self._calls = (Call * len(calls))(*[Call(address, addressof(given), alone) for address, given, alone in calls])
        memory = (ctypes.c_uint8 * output.nbytes).from_address(output.data_ptr())
        self._output = torch.frombuffer(memory, dtype=output.dtype).view(output.shape)

    def __call__(self) -> Tensor:
        native().run(self._calls, len(self._calls), torch.get_num_threads())
        return self._output


class Watch(TorchDispatchMode):
    """Notes the first operator of torch that computes something: no replay would run it."""

    def __init__(self) -> None:
        super().__init__()
        self.found = ""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if not (self.found or func.is_view or func.name().startswith("aten::empty")):
            self.found = func.name()
        return func(*args, **(kwargs or {}))


class _Thread(threading.local):
    def __init__(self) -> None:
        self.memory = Memory()


_thread = _Thread()


def capture(step: Callable[[], Tensor]) -> Capture:
    """:func:`openlathe.kernels.capture.capture`, of steps in which native operators do all the work."""
    calls: list[Noted] = []
    _thread.memory.open()
    with capturing(_thread.memory.allocate, lambda *noted: calls.append(noted)), Watch() as watch:
        output = step()
    if watch.found:
        return Capture(output=output, obstacle=f"{watch.found} has no native operator")
    if not output.is_contiguous():
        return Capture(output=output, obstacle="its output is a view")
    return Capture(output=output, replay=Replay(calls, output))
