"""The gate of a SwiGLU feed-forward layer (Shazeer, 2020, https://arxiv.org/abs/2002.05202)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def silu_mul(x: Tensor) -> Tensor:
    """``x`` [T, 2 * I], gates before values -> silu(gates) * values [T, I]."""
    gate, value = x.chunk(2, dim=-1)
    return F.silu(gate) * value
