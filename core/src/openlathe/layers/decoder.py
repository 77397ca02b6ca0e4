"""The frame that decoders have in common: pre-norm layers on a residual stream, a final norm, a head.

A family gives its attention and feed-forward layers, and overrides where it differs.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from ..spi import ModelBatch
from .context import BuildContext
from .decoder_config import DecoderConfig
from .embedding import Embedding
from .heads import LMHead
from .norm import NormFactory, RMSNorm
from .weights import WeightMap

#: Names that most checkpoints of decoders have.
DECODER_WEIGHTS = WeightMap(
    fused={"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")},
    renamed=((r"^(?=(embed_tokens|layers|norm)\.)", "model."),),  # as checkpoints without a head are written
    skipped=(r"\.rotary_emb\.inv_freq$",),
    tied={"lm_head.weight": "model.embed_tokens.weight"},
)


class DecoderLayer(nn.Module):
    """Attention, then feed-forward: each on the normalised stream, each added to it.

    Behind the attention of the last layer no token looks at another: only those that are wanted go on from there.
    """

    is_last = False

    def __init__(
        self,
        context: BuildContext,
        config: DecoderConfig,
        self_attn: nn.Module,
        mlp: nn.Module,
        *,
        norm: NormFactory = RMSNorm,
    ) -> None:
        super().__init__()
        self.input_layernorm = norm(context, config.hidden_size, config.norm_eps)
        self.self_attn = self_attn
        self.post_attention_layernorm = norm(context, config.hidden_size, config.norm_eps)
        self.mlp = mlp

    def forward(
        self, x: Tensor, residual: Tensor | None, positions: Tensor, batch: ModelBatch
    ) -> tuple[Tensor, Tensor]:
        """``x`` [T, H] is what the layer before put out and ``residual`` [T, H] the stream it belongs to."""
        x, residual = self.input_layernorm.add(x, residual)
        x = self.self_attn(x, positions, batch)
        if self.is_last and batch.wanted is not None:
            x, residual = x[batch.wanted], residual[batch.wanted]
        x, residual = self.post_attention_layernorm.add(x, residual)
        return self.mlp(x), residual


class Decoder(nn.Module):
    """Embedding, ``layers`` called as :class:`DecoderLayer` is, and the final norm."""

    def __init__(
        self,
        context: BuildContext,
        config: DecoderConfig,
        layers: Iterable[nn.Module],
        *,
        norm: NormFactory = RMSNorm,
        embedding_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.embed_tokens = Embedding(context, config.vocab_size, config.hidden_size, scale=embedding_scale)
        self.layers = nn.ModuleList(layers)
        if isinstance(last := self.layers[-1], DecoderLayer):
            last.is_last = True
        self.norm = norm(context, config.hidden_size, config.norm_eps)

    def forward(
        self, input_ids: Tensor | None, positions: Tensor, batch: ModelBatch, inputs_embeds: Tensor | None = None
    ) -> Tensor:
        """``input_ids`` [T] or ``inputs_embeds`` [T, H], ``positions`` [T] -> hidden states [T, H] or [S, H]."""
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        residual = None
        for layer in self.layers:
            x, residual = layer(x, residual, positions, batch)
        return self.norm.add(x, residual)[0]


class CausalLM(nn.Module):
    """A decoder under the name ``model`` and its head; follows :class:`openlathe.spi.Model`."""

    weights = DECODER_WEIGHTS

    def __init__(
        self, config: DecoderConfig, context: BuildContext, model: nn.Module, *, head_bias: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        tied = model.get_submodule("embed_tokens") if config.tie_word_embeddings else None
        assert tied is None or isinstance(tied, Embedding)
        self.lm_head = LMHead(context, config.hidden_size, config.vocab_size, tied=tied, bias=head_bias)

    def forward(
        self, input_ids: Tensor | None, positions: Tensor, batch: ModelBatch, inputs_embeds: Tensor | None = None
    ) -> Tensor:
        """``input_ids`` [T] or ``inputs_embeds`` [T, H], ``positions`` [T] -> hidden states [T, H]."""
        return self.model(input_ids, positions, batch, inputs_embeds)

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """``hidden`` [S, H] -> logits [S, V]."""
        return self.lm_head(hidden)
