"""Rotary embedding of queries and keys in one go: fewer, larger operations."""

from __future__ import annotations

import torch
from torch import Tensor

from openlathe.kernels.rotary import rotary as reference


def rotary(
    positions: Tensor, q: Tensor, k: Tensor, cos_sin: Tensor, interleaved: bool = False
) -> tuple[Tensor, Tensor]:
    """:func:`openlathe.kernels.rotary.rotary`; the rarer kinds, interleaved or partial, are left to it."""
    if interleaved or cos_sin.shape[-1] != q.shape[-1]:
        return reference(positions, q, k, cos_sin, interleaved)
    half = q.shape[-1] // 2
    cos, sin = cos_sin.index_select(0, positions).unsqueeze(1).chunk(2, dim=-1)
    x = torch.cat((q, k), dim=1).to(cos_sin.dtype)
    first, second = x.chunk(2, dim=-1)
    turned = torch.empty_like(x)
    torch.mul(first, cos, out=turned[..., :half]).addcmul_(second, sin, value=-1.0)
    torch.mul(second, cos, out=turned[..., half:]).addcmul_(first, sin)
    turned_q, turned_k = turned.to(q.dtype).split_with_sizes((q.shape[1], k.shape[1]), dim=1)
    return turned_q, turned_k
