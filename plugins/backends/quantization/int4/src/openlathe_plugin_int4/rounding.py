"""Weights in four bits: of several ranges for a group, the one whose grid is nearest to it."""

from __future__ import annotations

import torch
from torch import Tensor

#: How much of the way from the least to the greatest value of a group its grid may span.
SPANS = (1.0, 0.95, 0.9, 0.85, 0.8)
#: Steps of a grid, and elements that are in float32 at once.
STEPS, BLOCK = 15, 1 << 22


def rounded(weight: Tensor, group_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """``weight`` [N, K] -> whole numbers uint8 [N, K] in 0 to 15, scales bfloat16 and zero points uint8, both
    [N, K / group_size]: ``(whole - zero) * scale`` has, of all :data:`SPANS`, the least squared error in each group."""
    groups = weight.view(len(weight), -1, group_size)
    shape, device = groups.shape[:2], weight.device
    whole = torch.empty(groups.shape, dtype=torch.uint8, device=device)
    scales = torch.empty(shape, dtype=torch.bfloat16, device=device)
    zeros = torch.empty(shape, dtype=torch.uint8, device=device)
    rows = max(1, BLOCK // weight.shape[1])
    for start in range(0, len(weight), rows):
        part = slice(start, start + rows)
        whole[part], scales[part], zeros[part] = _nearest(groups[part].float())
    return whole.view(weight.shape), scales, zeros


def _nearest(groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[..., G] float32 -> whole numbers, scales and zero points, all float32."""
    low, high = groups.amin(-1, keepdim=True).clamp_max(0), groups.amax(-1, keepdim=True).clamp_min(0)
    best: tuple[Tensor, ...] = ()
    for span in SPANS:
        scale = ((high - low) * (span / STEPS)).clamp_min(1e-30).bfloat16().float()
        zero = (-low * span / scale).round_().clamp_(0, STEPS)
        whole = (groups / scale).round_().add_(zero).clamp_(0, STEPS)
        error = (whole - zero).mul_(scale).sub_(groups).square_().sum(-1, keepdim=True)
        found = (error, whole, scale, zero)
        best = tuple(torch.where(error < best[0], *pair) for pair in zip(found, best, strict=True)) if best else found
    _, whole, scale, zero = best
    return whole, scale.squeeze(-1), zero.squeeze(-1)
