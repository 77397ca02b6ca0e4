"""A model whose next token everybody can work out, and which nevertheless needs every token in the KV cache.

Each token's value is its number times a weight that its position gives it. With keys of zeros all scores are equal, so
attention answers with the mean of all values; times their count that is their sum. The next token is one more than the
sum, modulo the size of the vocabulary (:func:`next_token`). A token that is lost, repeated or out of place shows at
once, and no tolerance is needed: in float32 the sum is exact for about a thousand tokens.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from openlathe.layers.attention import Attention
from openlathe.layers.context import BuildContext
from openlathe.layers.embedding import Embedding
from openlathe.layers.weights import WeightMap
from openlathe.spi import ModelBatch

from .config import ToyConfig

#: Weights of positions: 1, 2, ..., 7, 1, 2, ...
CYCLE = 7


def next_token(tokens: Sequence[int], vocab_size: int) -> int:
    """The token that the model puts behind ``tokens``."""
    return (1 + sum(token * (position % CYCLE + 1) for position, token in enumerate(tokens))) % vocab_size


class ToyForCausalLM(nn.Module):
    """Follows :class:`openlathe.spi.Model`; its one weight is the table of token numbers."""

    weights = WeightMap()

    def __init__(self, config: ToyConfig, context: BuildContext) -> None:
        super().__init__()
        self.vocab_size = config.vocab_size
        self.embed_tokens = Embedding(context, config.vocab_size, config.hidden_size)
        self.attention = Attention(context, 0, config.num_heads, config.kv_specs[0])

    def forward(
        self, input_ids: Tensor | None, positions: Tensor, batch: ModelBatch, inputs_embeds: Tensor | None = None
    ) -> Tensor:
        """``input_ids`` [T] or ``inputs_embeds`` [T, H], ``positions`` [T] -> sums [T, H]."""
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        values = (x * (positions % CYCLE + 1)[:, None]).unsqueeze(1)
        zeros = torch.zeros_like(values)
        mean = self.attention(zeros, zeros, values, batch).squeeze(1)
        return mean * (positions + 1)[:, None]

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """``hidden`` [S, H] -> [S, V]: zero for the next token, one less for each step away from it."""
        wanted = (1 + hidden[:, :1].round()) % self.vocab_size
        return -(torch.arange(self.vocab_size, device=hidden.device) - wanted).abs()
