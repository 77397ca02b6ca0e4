"""Rotary tables equal those of transformers, whichever layout of config.json they were read from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Qwen3Config
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

from openlathe.layers.context import BuildContext
from openlathe.layers.hf_config import RopeParameters, read_rope
from openlathe.layers.rope import RotaryEmbedding, cos_sin_table
from openlathe.spi import CheckpointError

DIM = 32
VARIANTS: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256},
    "yarn, tuned": {
        "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 128, "beta_fast": 16, "beta_slow": 2,
        "mscale": 0.8, "mscale_all_dim": 0.5, "truncate": False,
    },
    "yarn, factor given": {
        "rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 512, "attention_factor": 1.25
    },
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layout", ["old", "new"])
def test_tables_equal_transformers(variant: str, layout: str) -> None:
    scaling = VARIANTS[variant]
    theirs = Qwen3Config(
        head_dim=DIM, max_position_embeddings=1024, rope_parameters={**scaling, "rope_theta": 50_000.0}
    )
    positions = torch.arange(1024)[None]
    cos, sin = Qwen3RotaryEmbedding(theirs)(torch.zeros(1), positions)

    config: dict[str, Any] = {"max_position_embeddings": 1024}
    if layout == "new":
        config["rope_parameters"] = {**scaling, "rope_theta": 50_000.0}
    else:
        config |= {"rope_theta": 50_000.0, "rope_scaling": None if variant == "default" else scaling}
    table = cos_sin_table(read_rope(config), DIM, 1024)
    torch.testing.assert_close(table, torch.cat((cos[0, :, : DIM // 2], sin[0, :, : DIM // 2]), -1))


def test_the_oldest_spelling_of_the_type() -> None:
    rope = read_rope({"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}})
    assert (rope.kind, rope.theta, rope.scaling["factor"]) == ("linear", 500.0, 2.0)


def test_kinds_of_layers_may_have_one_each() -> None:
    config = {
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        }
    }
    assert read_rope(config, "full_attention").kind == "linear"
    assert read_rope(config, "sliding_attention") == RopeParameters(theta=1e4)


@pytest.mark.parametrize(
    "parameters, told",
    [
        (RopeParameters(theta=1e4, kind="spiral"), "rope type 'spiral'; openlathe serves default, linear, yarn"),
        (RopeParameters(theta=1e4, kind="linear"), "rope type 'linear' without its 'factor'"),
    ],
)
def test_what_cannot_be_served_is_refused(parameters: RopeParameters, told: str) -> None:
    with pytest.raises(CheckpointError, match=told):
        cos_sin_table(parameters, DIM, 16)


def test_a_partial_embedding_turns_the_first_dimensions_only() -> None:
    layer = RotaryEmbedding(BuildContext(max_model_len=64), 16, RopeParameters(theta=1e4, partial=0.5))
    assert layer.cos_sin.shape == (64, 8)
    q, k = torch.randn(2, 3, 16), torch.randn(2, 1, 16)
    turned, _ = layer(torch.tensor([5, 9]), q, k)
    assert torch.equal(turned[..., 8:], q[..., 8:])
    assert not torch.equal(turned[..., :8], q[..., :8])
    assert not list(layer.state_dict())
