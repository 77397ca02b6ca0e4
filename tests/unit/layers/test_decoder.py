"""The frame of decoders: tokens that nobody asks for stop behind the attention of the last layer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn

from openlathe.layers.context import BuildContext
from openlathe.layers.decoder import Decoder, DecoderLayer
from openlathe.layers.norm import Norm
from openlathe.spi import ModelBatch

TOKENS, HIDDEN = 6, 4


class Halved(Norm):
    def forward(self, x: Tensor) -> Tensor:
        return x / 2


class Attention(nn.Module):
    def forward(self, x: Tensor, positions: Tensor, batch: ModelBatch) -> Tensor:
        return x.cumsum(0) + positions[:, None]


class FeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        return x.square()


def hidden_states(wanted: Tensor | None) -> tuple[Tensor, list[int]]:
    """What a decoder of three layers answers, and how many rows the feed-forward layer of each has seen."""
    config = cast(Any, SimpleNamespace(hidden_size=HIDDEN, norm_eps=0.0, vocab_size=9))
    context = BuildContext()
    layers = [DecoderLayer(context, config, Attention(), FeedForward(), norm=lambda *_: Halved()) for _ in range(3)]
    decoder = Decoder(context, config, layers, norm=lambda *_: Halved())
    embeds = torch.arange(TOKENS * HIDDEN, dtype=torch.float32).view(TOKENS, HIDDEN) / 10
    batch = ModelBatch(backends=[], plans=[], wanted=wanted)
    found = decoder(None, torch.arange(TOKENS), batch, embeds)
    return found, [layer.mlp.rows[0] for layer in layers]


def test_wanted_tokens_alone_go_through_the_last_feed_forward_layer() -> None:
    every, rows = hidden_states(None)
    assert rows == [TOKENS] * 3
    for wanted in ([5], [2, 4], [4, 2], list(range(TOKENS))):
        some, rows = hidden_states(torch.tensor(wanted))
        assert torch.equal(some, every[wanted])
        assert rows == [TOKENS, TOKENS, len(wanted)]
