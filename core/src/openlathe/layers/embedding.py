"""Token embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .context import BuildContext
from .weights import placeholder


class Embedding(nn.Module):
    """``input_ids`` [T] int64 -> [T, hidden_size], times ``scale``, which is rounded to the model's dtype."""

    def __init__(self, context: BuildContext, vocab_size: int, hidden_size: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = placeholder(vocab_size, hidden_size, dtype=context.dtype)
        self.scale = torch.tensor(scale, dtype=context.dtype).item()
        self.operators = context.operators

    def forward(self, input_ids: Tensor) -> Tensor:
        found = self.operators.embedding(input_ids, self.weight)
        return found if self.scale == 1.0 else found.mul_(self.scale)
