"""The residual stream's step: add a sub-layer's output, normalise for the next one."""

from __future__ import annotations

from torch import Tensor

from .rms_norm import rms_norm


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """``x`` and ``residual`` [..., H], ``weight`` [H] -> (normalised sum, sum), the sum rounded to the input's dtype.

    A provider may write into ``x``, which the caller uses no more; never into ``residual``.
    """
    total = x + residual
    return rms_norm(total, weight, eps), total
