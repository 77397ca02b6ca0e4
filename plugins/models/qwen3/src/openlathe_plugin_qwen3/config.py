"""What a Qwen3 config.json says; torch-free, because plans are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openlathe.layers.hf_config import RopeParameters, read_dtype, read_field, read_rope, read_size, require
from openlathe.spi import CheckpointError, FullKV, KVSpec, SlidingKV


@dataclass(frozen=True, kw_only=True)
class Qwen3Config:
    """The dense Qwen3 family; ``windows`` holds each layer's sliding window, or None."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    rope: RopeParameters
    attention_bias: bool
    tie_word_embeddings: bool
    windows: tuple[int | None, ...]
    dtype: str

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> Qwen3Config:
        """Reads config.json in either layout; raises ``CheckpointError`` naming the field that cannot be served."""
        require(config, "hidden_act", "silu")
        num_heads = read_size(config, "num_attention_heads")
        num_kv_heads = read_size(config, "num_key_value_heads", num_heads)
        if num_heads % num_kv_heads:
            raise CheckpointError(
                f"config.json gives {num_heads} attention heads and {num_kv_heads} key-value heads; the former must "
                "be a multiple of the latter."
            )
        return cls(
            vocab_size=read_size(config, "vocab_size"),
            hidden_size=read_size(config, "hidden_size"),
            intermediate_size=read_size(config, "intermediate_size"),
            num_layers=read_size(config, "num_hidden_layers"),
            num_heads=num_heads,
            num_kv_heads=num_kv_heads,
            head_dim=read_size(config, "head_dim", 128),
            max_position_embeddings=read_size(config, "max_position_embeddings", 32768),
            rms_norm_eps=read_field(config, "rms_norm_eps", float, 1e-6),
            rope=read_rope(config),
            attention_bias=read_field(config, "attention_bias", bool, False),
            tie_word_embeddings=read_field(config, "tie_word_embeddings", bool, False),
            windows=_windows(config),
            dtype=read_dtype(config),
        )

    @property
    def kv_specs(self) -> tuple[KVSpec, ...]:
        sizes = {"kv_heads": self.num_kv_heads, "dim_k": self.head_dim, "dim_v": self.head_dim}
        return tuple(SlidingKV(window=w, **sizes) if w else FullKV(**sizes) for w in self.windows)

    @property
    def attention_features(self) -> frozenset[str]:
        return frozenset({"sliding_window"} if any(self.windows) else ())


def _windows(config: Mapping[str, Any]) -> tuple[int | None, ...]:
    """Newer files name each layer's kind; in older ones the layers from ``max_window_layers`` on have the window."""
    count = read_size(config, "num_hidden_layers")
    window = read_size(config, "sliding_window", 4096) if config.get("use_sliding_window") else None
    kinds = config.get("layer_types")
    if kinds is None:
        first = read_field(config, "max_window_layers", int, 28)
        return tuple(window if index >= first else None for index in range(count))
    if len(kinds) != count or not set(kinds) <= {"full_attention", "sliding_attention"}:
        raise CheckpointError(
            f"config.json gives layer_types as {kinds!r}; it must name 'full_attention' or 'sliding_attention' for "
            f"each of the {count} layers."
        )
    return tuple(window if kind == "sliding_attention" else None for kind in kinds)
