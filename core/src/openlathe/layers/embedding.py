"""Token embeddings."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .context import BuildContext
from .weights import placeholder


class Embedding(nn.Module):
    """``input_ids`` [T] int64 -> [T, hidden_size]."""

    def __init__(self, context: BuildContext, vocab_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight = placeholder(vocab_size, hidden_size, dtype=context.dtype)

    def forward(self, input_ids: Tensor) -> Tensor:
        return F.embedding(input_ids, self.weight)
