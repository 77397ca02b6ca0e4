"""What is particular to Qwen3 and no rule of the conformance suite reaches: its variants, and its config.json."""

from __future__ import annotations

import random
from typing import Any, cast

import pytest
import torch
from openlathe_plugin_qwen3.config import Qwen3Config

from openlathe.plugins.registry import Registry
from openlathe.spi import CheckpointError, FullKV, Provider, SlidingKV
from openlathe_sdk.harness.model import ModelBench, plan_for, reference_logits, reference_model, write_tiny

#: Qwen3-0.6B's config.json as published, in the older layout.
PUBLISHED: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "max_position_embeddings": 40960,
    "max_window_layers": 28,
    "num_attention_heads": 16,
    "num_hidden_layers": 28,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 151936,
}
WINDOW: dict[str, Any] = {"use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}
VARIANTS: dict[str, dict[str, Any]] = {
    "biases": {"attention_bias": True},
    "a window in the later layers": WINDOW,
    "yarn": {
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16
        }
    },
    "one key head": {"num_key_value_heads": 1},
}  # fmt: skip


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_variants_equal_transformers(openlathe_registry: Registry, changes: dict[str, Any]) -> None:
    """Prefill, then a chunk, then single tokens, beyond the window."""
    provider: Provider = openlathe_registry.get("model", "qwen3")
    checkpoint = write_tiny(provider, changes=changes)
    bench = ModelBench(plan_for(provider, openlathe_registry, checkpoint))
    tokens = random.Random(0).choices(range(bench.plan.model_config().vocab_size), k=40)
    sequence = bench.sequence()
    parts = [tokens[:17], tokens[17:30], *([token] for token in tokens[30:])]
    ours = torch.cat([bench.step([(sequence, part)])[0] for part in parts]).log_softmax(-1)
    theirs = reference_logits(reference_model(provider, checkpoint), tokens).log_softmax(-1)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_the_published_configuration() -> None:
    config = Qwen3Config.from_hf(PUBLISHED)
    assert (config.num_layers, config.num_heads, config.rope.theta, config.dtype) == (28, 16, 1e6, "bfloat16")
    assert config.kv_specs == (FullKV(kv_heads=8, dim_k=128, dim_v=128),) * 28
    assert config.attention_features == frozenset()


def test_windows_in_older_and_newer_files() -> None:
    older = Qwen3Config.from_hf(
        PUBLISHED | {"use_sliding_window": True, "sliding_window": 512, "max_window_layers": 26}
    )
    kinds = ["full_attention"] * 26 + ["sliding_attention"] * 2
    newer = Qwen3Config.from_hf(PUBLISHED | {"use_sliding_window": True, "sliding_window": 512, "layer_types": kinds})
    assert older == newer
    assert [cast(SlidingKV, spec).window for spec in older.kv_specs[26:]] == [512, 512]
    assert older.attention_features == {"sliding_window"}


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"hidden_size": None}, "has no 'hidden_size'"),
        ({"hidden_act": "gelu"}, "hidden_act as 'gelu'; this plugin serves 'silu' only"),
        ({"num_key_value_heads": 3}, "16 attention heads and 3 key-value heads"),
        ({"layer_types": ["full_attention"]}, "for each of the 28 layers"),
        ({"layer_types": ["spiral"] * 28}, "must name 'full_attention' or 'sliding_attention'"),
        ({"torch_dtype": "float8"}, "dtype as 'float8'"),
    ],
)
def test_what_cannot_be_served_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(CheckpointError, match=told):
        Qwen3Config.from_hf(PUBLISHED | changes)
