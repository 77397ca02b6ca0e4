"""Rows of an embedding."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def embedding(ids: Tensor, weight: Tensor) -> Tensor:
    """``ids`` [T] int64, ``weight`` [V, H] -> the rows [T, H]."""
    return F.embedding(ids, weight)
