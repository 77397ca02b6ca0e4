"""The SwiGLU gate with one temporary."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def silu_mul(x: Tensor) -> Tensor:
    """:func:`openlathe.kernels.silu_mul.silu_mul`."""
    gate, value = x.chunk(2, dim=-1)
    return F.silu(gate).mul_(value)
