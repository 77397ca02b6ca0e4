"""Between host and device without either waiting for the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """A copy on the device; on a CPU the array's own memory."""
    tensor = torch.from_numpy(array)
    return tensor if device.type == "cpu" else tensor.to(device, non_blocking=True)


def select(tensor: Tensor, rows: NDArray[np.int64]) -> Tensor:
    """``tensor[rows]`` for ascending ``rows``: the tensor itself, not a copy, where these are all."""
    return tensor if len(rows) == len(tensor) else tensor[to_device(rows, tensor.device)]


class HostCopy:
    """Tensors on their way to the host: the copies start at once, :meth:`wait` answers when they have arrived."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._event: torch.cuda.Event | None = None
        self._tensors = list(tensors)
        if self._tensors and self._tensors[0].is_cuda:
            self._tensors = [_to_pinned(tensor) for tensor in tensors]
            self._event = torch.cuda.Event()
            self._event.record()

    def wait(self) -> list[Tensor]:
        if self._event is not None:
            self._event.synchronize()
        return self._tensors


def _to_pinned(tensor: Tensor) -> Tensor:
    # A copy to ordinary memory would make the host wait for everything queued before it.
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)
