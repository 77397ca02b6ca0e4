"""The gates of feed-forward layers in one pass."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from openlathe.kernels.gelu_mul import gelu_mul as gelu_reference
from openlathe.kernels.silu_mul import silu_mul as silu_reference

from .calls import SHARED, arguments, empty, operator
from .linear import NAMES

Gate = arguments("Gate", pointers="x y", integers="bytes stride tokens size")


def silu_mul(x: Tensor) -> Tensor:
    """:func:`openlathe.kernels.silu_mul.silu_mul`; dtypes without a native function are left to it."""
    return _gate("silu_mul", x) if x.dtype in NAMES else silu_reference(x)


def gelu_mul(x: Tensor) -> Tensor:
    """:func:`openlathe.kernels.gelu_mul.gelu_mul`; dtypes without a native function are left to it."""
    return _gate("gelu_mul", x) if x.dtype in NAMES else gelu_reference(x)


def _gate(name: str, x: Tensor) -> Tensor:
    if x.stride(-1) != 1:
        x = x.contiguous()
    tokens, size = x.shape[0], x.shape[1] // 2
    y = empty((tokens, size), x.dtype)
    operator(name)(Gate(x.data_ptr(), y.data_ptr(), x.itemsize, x.stride(0), tokens, size), alone=y.numel() < SHARED)
    return y


#: What native/panels.h calls the gates that are applied to sums before these are rounded.
NUMBERS: dict[Callable[[Tensor], Tensor], int] = {silu_mul: 1, silu_reference: 1, gelu_mul: 2, gelu_reference: 2}
