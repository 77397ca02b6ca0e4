"""Rotary embedding in one pass."""

from __future__ import annotations

import torch
from torch import Tensor

from openlathe.kernels.rotary import rotary as reference

from .calls import SHARED, arguments, empty, operator
from .linear import NAMES

Rotary = arguments(
    "Rotary",
    pointers="q k turned_q turned_k positions cos_sin",
    integers="bytes q_token q_head q_heads k_token k_head k_heads tokens size turned interleaved",
)


def rotary(
    positions: Tensor, q: Tensor, k: Tensor, cos_sin: Tensor, interleaved: bool = False
) -> tuple[Tensor, Tensor]:
    """:func:`openlathe.kernels.rotary.rotary`; dtypes without a native function are left to it."""
    if q.dtype not in NAMES or k.dtype != q.dtype or cos_sin.dtype != torch.float32 or not cos_sin.is_contiguous():
        return reference(positions, q, k, cos_sin, interleaved)
    positions, q, k = positions.contiguous(), _rows(q), _rows(k)
    turned_q, turned_k = empty(q.shape, q.dtype), empty(k.shape, k.dtype)
    (tokens, q_heads, size), k_heads = q.shape, k.shape[1]
    operator("rotary")(
        Rotary(
            *(tensor.data_ptr() for tensor in (q, k, turned_q, turned_k, positions, cos_sin)),
            q.itemsize,
            *q.stride()[:2],
            q_heads,
            *k.stride()[:2],
            k_heads,
            tokens,
            size,
            cos_sin.shape[-1],
            interleaved,
        ),
        alone=q.numel() + k.numel() < SHARED,
    )
    return turned_q, turned_k


def _rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()
