"""Normalisation through torch's own composite, which rounds as the reference does."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """:func:`openlathe.kernels.rms_norm.rms_norm`."""
    return F.rms_norm(x, weight.shape, weight, eps)


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """:func:`openlathe.kernels.add_rms_norm.add_rms_norm`; the sum takes the place of ``x``."""
    total = x.add_(residual)
    return F.rms_norm(total, weight.shape, weight, eps), total
