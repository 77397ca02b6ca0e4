"""What the toy's config.json says; torch-free, because plans are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openlathe.spi import CheckpointError, FullKV, KVSpec


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """One layer with one head, whose keys and values have ``hidden_size`` elements."""

    vocab_size: int
    max_position_embeddings: int
    hidden_size: int = 16
    num_layers: int = 1
    num_heads: int = 1
    dtype: str = "float32"

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> ToyConfig:
        try:
            return cls(vocab_size=config["vocab_size"], max_position_embeddings=config["max_position_embeddings"])
        except KeyError as error:
            raise CheckpointError(f"config.json lacks {error}, which the toy model needs.") from None

    @property
    def kv_specs(self) -> tuple[KVSpec, ...]:
        return (FullKV(kv_heads=1, dim_k=self.hidden_size, dim_v=self.hidden_size),)

    @property
    def attention_features(self) -> frozenset[str]:
        return frozenset()
