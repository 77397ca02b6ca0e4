"""Attention over two disjoint sets of keys from the attention over each."""

from __future__ import annotations

import torch
from torch import Tensor


def merge_states(out_a: Tensor, lse_a: Tensor, out_b: Tensor, lse_b: Tensor) -> tuple[Tensor, Tensor]:
    """``out`` [T, heads, D] with ``lse`` [T, heads] float32 of two sets of keys -> (out, lse) of their union.

    Each part weighs by its share of the common softmax denominator (Ye et al., 2024, https://arxiv.org/abs/2501.01005,
    section 2.2). A part that saw no key (lse minus infinity) has no share.
    """
    lse = torch.logaddexp(lse_a, lse_b)
    base = lse.clamp_min(torch.finfo(lse.dtype).min)
    share_a, share_b = (torch.exp(part - base).unsqueeze(-1) for part in (lse_a, lse_b))
    return (out_a * share_a + out_b * share_b).to(out_a.dtype), lse
