"""Normalisation in one pass over each row, with the sum of the residual stream."""

from __future__ import annotations

from torch import Tensor

from openlathe.kernels.add_rms_norm import add_rms_norm as add_reference
from openlathe.kernels.rms_norm import rms_norm as reference

from .calls import SHARED, arguments, empty, operator
from .linear import NAMES

Norm = arguments(
    "Norm",
    pointers="x residual weight y",
    integers="bytes weight_bytes token head tokens heads size",
    reals="eps",
)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """:func:`openlathe.kernels.rms_norm.rms_norm`; dtypes without a native function are left to it."""
    if x.dtype not in NAMES or weight.dtype not in NAMES:
        return reference(x, weight, eps)
    size = x.shape[-1]
    if x.dim() == 3 and x.stride(-1) == 1:
        (tokens, heads, _), (token, head, _) = x.shape, x.stride()
    else:
        x = x.contiguous()
        tokens, heads, token, head = x.numel() // max(size, 1), 1, size, 0
    y = empty(x.shape, x.dtype)
    operator("rms_norm")(
        Norm(
            x.data_ptr(),
            None,
            weight.data_ptr(),
            y.data_ptr(),
            x.itemsize,
            weight.itemsize,
            token,
            head,
            tokens,
            heads,
            size,
            eps,
        ),
        alone=x.numel() < SHARED,
    )
    return y


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """:func:`openlathe.kernels.add_rms_norm.add_rms_norm`; the sum takes the place of ``x``."""
    if x.dtype not in NAMES or weight.dtype not in NAMES or not (x.is_contiguous() and residual.is_contiguous()):
        return add_reference(x, residual, weight, eps)
    y = empty(x.shape, x.dtype)
    size = x.shape[-1]
    tokens = x.numel() // max(size, 1)
    operator("add_rms_norm")(
        Norm(
            x.data_ptr(),
            residual.data_ptr(),
            weight.data_ptr(),
            y.data_ptr(),
            x.itemsize,
            weight.itemsize,
            size,
            0,
            tokens,
            1,
            size,
            eps,
        ),
        alone=x.numel() < SHARED,
    )
    return y, x
