"""Linear layers: fused shards land in their rows, and packing leaves no second copy."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from openlathe.kernels.silu_mul import silu_mul
from openlathe.layers.context import BuildContext
from openlathe.layers.embedding import Embedding
from openlathe.layers.heads import LMHead
from openlathe.layers.linear import Linear, MergedLinear, QKVLinear
from openlathe.layers.weights import Misfit, materialise


def _loaded(layer: Linear, shards: list[torch.Tensor], name: str = "weight") -> None:
    for index, shard in enumerate(shards):
        layer.load_weight(name, index if len(shards) > 1 else None, shard)


def test_shards_land_in_their_rows() -> None:
    layer = MergedLinear(BuildContext(), 4, [3, 5], bias=True)
    layer.bind("mlp.gate_up_proj")
    assert layer.weight_parts() == {
        ("weight", 0): (3, 4), ("weight", 1): (5, 4), ("bias", 0): (3,), ("bias", 1): (5,)
    }  # fmt: skip
    weights, biases = [torch.randn(3, 4), torch.randn(5, 4)], [torch.randn(3), torch.randn(5)]
    _loaded(layer, weights)
    _loaded(layer, biases, "bias")
    layer.pack()
    x = torch.randn(2, 4)
    torch.testing.assert_close(layer(x), x @ torch.cat(weights).T + torch.cat(biases))


def test_qkv_answers_by_head() -> None:
    layer = QKVLinear(BuildContext(), 6, num_heads=4, num_kv_heads=2, head_dim=3)
    layer.bind("qkv_proj")
    weights = [torch.randn(12, 6), torch.randn(6, 6), torch.randn(6, 6)]
    _loaded(layer, weights)
    layer.pack()
    x = torch.randn(5, 6)
    for mine, weight, heads in zip(layer(x), weights, (4, 2, 2), strict=True):
        torch.testing.assert_close(mine, (x @ weight.T).view(5, heads, 3))


def test_a_shard_of_the_wrong_shape_is_refused() -> None:
    layer = MergedLinear(BuildContext(), 4, [3, 5])
    layer.bind("gate_up_proj")
    with pytest.raises(Misfit, match=r"\[5, 4\] where the configuration asks for \[3, 4\]"):
        layer.load_weight("weight", 0, torch.zeros(5, 4))


def test_packing_drops_the_parameters() -> None:
    layer = Linear(BuildContext(), 4, 3, bias=True)
    layer.bind("proj")
    _loaded(layer, [torch.randn(3, 4)])
    _loaded(layer, [torch.randn(3)], "bias")
    layer.pack()
    assert list(layer.parameters()) == []


def test_the_method_is_told_the_name_and_the_rows() -> None:
    told: list[Any] = []

    class Method:
        def create(self, layer: Any, *what: Any) -> None:
            told.append(what)

    context = BuildContext()
    context.linear_method = Method()  # type: ignore[assignment]
    MergedLinear(context, 4, [3, 5]).bind("model.layers.0.mlp.gate_up_proj")
    assert told == [("model.layers.0.mlp.gate_up_proj", 4, (3, 5), False)]


def test_a_gate_is_left_to_the_operator() -> None:
    """Which is told of it, and then the layer applies none itself."""
    layer = MergedLinear(BuildContext(), 4, [3, 3], gate=silu_mul)
    layer.bind("gate_up_proj")
    weights = [torch.randn(3, 4), torch.randn(3, 4)]
    _loaded(layer, weights)
    layer.pack()
    x = torch.randn(2, 4)
    assert layer.gate is None
    torch.testing.assert_close(layer(x), F.silu(x @ weights[0].T) * (x @ weights[1].T))


def test_a_gate_that_no_method_takes_over_is_the_layer_s() -> None:
    class Method:
        def apply(self, layer: Any, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x, x + 1], dim=-1)

    context = BuildContext()
    context.linear_method = Method()  # type: ignore[assignment]
    x = torch.randn(2, 4)
    torch.testing.assert_close(MergedLinear(context, 4, [4, 4], gate=silu_mul)(x), F.silu(x) * (x + 1))


def test_a_tied_head_shares_the_embedding() -> None:
    context = BuildContext()
    embedding = Embedding(context, 7, 4)
    head = LMHead(context, 4, 7, tied=embedding)
    head.bind("lm_head")
    assert head.weight_parts() == {}
    weight = materialise(embedding, "weight", context.device).normal_()
    head.pack()
    assert head.packed.weight.data_ptr() == weight.data_ptr()
    assert embedding.weight.data_ptr() == weight.data_ptr()
    x = torch.randn(2, 4)
    torch.testing.assert_close(head(x), x @ weight.T)
    assert [name for name, _ in head.named_modules()] == [""]


def test_a_head_of_its_own_waits_for_its_weight() -> None:
    head = LMHead(BuildContext(), 4, 7)
    head.bind("lm_head")
    assert head.weight_parts() == {("weight", None): (7, 4)}
