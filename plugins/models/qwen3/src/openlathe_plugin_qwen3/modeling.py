"""Qwen3, dense (Qwen Team, 2025, https://arxiv.org/abs/2505.09388): pre-norm, grouped queries, a norm on each head."""

from __future__ import annotations

from torch import Tensor, nn

from openlathe.layers.attention import Attention
from openlathe.layers.context import BuildContext
from openlathe.layers.embedding import Embedding
from openlathe.layers.heads import LMHead
from openlathe.layers.linear import QKVLinear, RowLinear
from openlathe.layers.mlp import GatedMLP
from openlathe.layers.norm import RMSNorm
from openlathe.layers.rope import RotaryEmbedding
from openlathe.layers.weights import WeightMap
from openlathe.spi import ModelBatch

from .config import Qwen3Config


class Qwen3Attention(nn.Module):
    def __init__(self, config: Qwen3Config, context: BuildContext, index: int, rotary: RotaryEmbedding) -> None:
        super().__init__()
        self.qkv_proj = QKVLinear(
            context,
            config.hidden_size,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            bias=config.attention_bias,
        )
        self.q_norm = RMSNorm(context, config.head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(context, config.head_dim, config.rms_norm_eps)
        self.rotary = rotary
        self.attention = Attention(context, index, config.num_heads, config.kv_specs[index])
        self.o_proj = RowLinear(
            context, config.num_heads * config.head_dim, config.hidden_size, bias=config.attention_bias
        )

    def forward(self, x: Tensor, positions: Tensor, batch: ModelBatch) -> Tensor:
        q, k, v = self.qkv_proj(x)
        q, k = self.rotary(positions, self.q_norm(q), self.k_norm(k))
        return self.o_proj(self.attention(q, k, v, batch).flatten(1))


class Qwen3Layer(nn.Module):
    def __init__(self, config: Qwen3Config, context: BuildContext, index: int, rotary: RotaryEmbedding) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(context, config.hidden_size, config.rms_norm_eps)
        self.self_attn = Qwen3Attention(config, context, index, rotary)
        self.post_attention_layernorm = RMSNorm(context, config.hidden_size, config.rms_norm_eps)
        self.mlp = GatedMLP(context, config.hidden_size, config.intermediate_size)

    def forward(
        self, x: Tensor, residual: Tensor | None, positions: Tensor, batch: ModelBatch
    ) -> tuple[Tensor, Tensor]:
        """``x`` [T, H] is what the layer before put out and ``residual`` [T, H] the stream it belongs to."""
        x, residual = self.input_layernorm.add(x, residual)
        x = self.self_attn(x, positions, batch)
        x, residual = self.post_attention_layernorm.add(x, residual)
        return self.mlp(x), residual


class Qwen3Model(nn.Module):
    def __init__(self, config: Qwen3Config, context: BuildContext) -> None:
        super().__init__()
        rotary = RotaryEmbedding(context, config.head_dim, config.rope)
        self.embed_tokens = Embedding(context, config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Qwen3Layer(config, context, i, rotary) for i in range(config.num_layers))
        self.norm = RMSNorm(context, config.hidden_size, config.rms_norm_eps)

    def forward(
        self, input_ids: Tensor | None, positions: Tensor, batch: ModelBatch, inputs_embeds: Tensor | None = None
    ) -> Tensor:
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        residual = None
        for layer in self.layers:
            x, residual = layer(x, residual, positions, batch)
        return self.norm.add(x, residual)[0]


class Qwen3ForCausalLM(nn.Module):
    """Follows :class:`openlathe.spi.Model`."""

    weights = WeightMap(
        fused={"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")},
        skipped=(r"\.rotary_emb\.inv_freq$",),
        tied={"lm_head.weight": "model.embed_tokens.weight"},
    )

    def __init__(self, config: Qwen3Config, context: BuildContext) -> None:
        super().__init__()
        self.model = Qwen3Model(config, context)
        tied = self.model.embed_tokens if config.tie_word_embeddings else None
        self.lm_head = LMHead(context, config.hidden_size, config.vocab_size, tied=tied)

    def forward(
        self, input_ids: Tensor | None, positions: Tensor, batch: ModelBatch, inputs_embeds: Tensor | None = None
    ) -> Tensor:
        """``input_ids`` [T] or ``inputs_embeds`` [T, H], ``positions`` [T] -> hidden states [T, H]."""
        return self.model(input_ids, positions, batch, inputs_embeds)

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """``hidden`` [S, H] -> logits [S, V]."""
        return self.lm_head(hidden)
