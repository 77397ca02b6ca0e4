"""Latent attention's two ways to the same scores and values, and the weight they share."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from openlathe.kernels import Gate, Operators
from openlathe.kernels.linear import PlainLinear
from openlathe.layers.context import BuildContext
from openlathe.layers.hf_config import RopeParameters
from openlathe.layers.latent_config import LatentSizes, read_latent_sizes
from openlathe.layers.mla import LatentAttention
from openlathe.layers.rope import RotaryEmbedding
from openlathe.spi import CheckpointError

SIZES = LatentSizes(query=None, latent=16, nope=6, rope=4, value=5)
HEADS = 3


class Packed(PlainLinear):
    """Keeps no weight that anybody could read, as a quantised one does not."""

    def __init__(self, weight: Tensor, bias: Tensor | None, gate: Gate | None = None) -> None:
        super().__init__(weight, bias)
        self.hidden, self.weight = weight.clone(), None

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.hidden.T


def built(operators: Operators, dtype: torch.dtype = torch.float32) -> tuple[LatentAttention, Tensor]:
    """A layer whose ``kv_b_proj`` is loaded, and that one's weight by heads."""
    context = BuildContext(dtype=dtype, operators=operators, max_model_len=8)
    rotary = RotaryEmbedding(context, SIZES.rope, RopeParameters(theta=1e4))
    layer = LatentAttention(context, SIZES, 0, rotary, hidden_size=8, num_heads=HEADS, scale=1.0)
    weight = torch.randn(HEADS * (SIZES.nope + SIZES.value), SIZES.latent).to(dtype)
    layer.kv_b_proj.bind("kv_b_proj")
    layer.kv_b_proj.load_weight("weight", None, weight)
    layer.kv_b_proj.pack()
    return layer, weight.view(HEADS, -1, SIZES.latent)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("operators", [Operators(), Operators(linear=Packed)], ids=["plain", "packed away"])
def test_both_projections_are_the_weight_s_own_values(operators: Operators, dtype: torch.dtype) -> None:
    layer, weight = built(operators, dtype)
    keys, values = weight.split((SIZES.nope, SIZES.value), dim=1)
    assert torch.equal(layer.kv_b_proj.up_keys, keys.transpose(1, 2))
    assert torch.equal(layer.kv_b_proj.up_values, values)


def test_absorbed_and_expanded_come_to_the_same() -> None:
    layer, _ = built(Operators())
    q, latent = torch.randn(7, HEADS, SIZES.nope + SIZES.rope), torch.randn(9, SIZES.latent + SIZES.rope)
    keys, values = layer.expand(latent)
    assert keys.is_contiguous()
    assert values.is_contiguous()
    expanded = torch.einsum("qhd,hkd->hqk", q, keys)
    absorbed = torch.einsum("qhd,kd->hqk", layer.absorb(q), latent)
    torch.testing.assert_close(absorbed, expanded)
    weights = torch.rand(7, HEADS, 9)
    seen = torch.einsum("qhk,kl->qhl", weights, latent[:, : SIZES.latent])
    torch.testing.assert_close(layer.values(seen), torch.einsum("qhk,hkv->qhv", weights, values))


def test_yarn_s_temperature_is_in_the_scale_where_mscale_all_dim_says_so() -> None:
    plain = (SIZES.nope + SIZES.rope) ** -0.5
    scaling = {"factor": 40.0, "original_max_position_embeddings": 64}
    assert SIZES.scale(RopeParameters(theta=1e4)) == plain
    assert SIZES.scale(RopeParameters(theta=1e4, kind="yarn", scaling=scaling)) == plain
    scale = SIZES.scale(RopeParameters(theta=1e4, kind="yarn", scaling={**scaling, "mscale_all_dim": 1.0}))
    assert scale == pytest.approx(plain * 1.3688879454113936**2)
    shrunk = {**scaling, "mscale_all_dim": 1.0, "factor": 1.0}
    assert SIZES.scale(RopeParameters(theta=1e4, kind="yarn", scaling=shrunk)) == plain


def test_sizes_from_config_json() -> None:
    published = {"q_lora_rank": None, "kv_lora_rank": 512, "v_head_dim": 96}
    assert read_latent_sizes(published) == LatentSizes(query=None, latent=512, nope=128, rope=64, value=96)
    assert read_latent_sizes({}).query == 1536
    with pytest.raises(CheckpointError, match="q_lora_rank as 0"):
        read_latent_sizes({"q_lora_rank": 0})
