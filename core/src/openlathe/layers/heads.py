"""Heads: from hidden states to what is asked for."""

from __future__ import annotations

from torch import nn

from .context import BuildContext
from .embedding import Embedding
from .linear import Linear
from .weights import Part


class LMHead(Linear):
    """Hidden states [S, H] -> logits [S, V]; shares the weight of ``tied`` where that is given.

    A linear method that rearranges weights makes a copy of a tied one, which costs memory of its own.
    """

    def __init__(
        self,
        context: BuildContext,
        hidden_size: int,
        vocab_size: int,
        *,
        tied: Embedding | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__(context, hidden_size, vocab_size, bias=bias)
        # In a list, so that the embedding does not become a second child of this module.
        self._tied = [tied] if tied is not None else []

    @property
    def is_tied(self) -> bool:
        return bool(self._tied)

    def weight_parts(self) -> dict[Part, tuple[int, ...]]:
        parts = super().weight_parts()
        return {part: shape for part, shape in parts.items() if not (self.is_tied and part[0] == "weight")}

    def pack(self) -> None:
        for embedding in self._tied:
            self.weight = nn.Parameter(embedding.weight.data, requires_grad=False)
        super().pack()
