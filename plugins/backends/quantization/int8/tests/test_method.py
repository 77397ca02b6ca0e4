"""Layers and models on weights that were rounded to eight bits as they were loaded."""

from __future__ import annotations

import pytest
import torch
import transformers
from openlathe_plugin_int8.method import BLOCK, Int8LinearMethod, rounded
from torch import nn

from openlathe import LLM, SamplingParams
from openlathe.config import EngineConfig
from openlathe.kernels import Operators
from openlathe.layers.context import BuildContext
from openlathe.layers.linear import Linear, MergedLinear
from openlathe.plugins.assemble import assemble
from openlathe.plugins.plan import make_plan
from openlathe_sdk.checkpoints import tiny_qwen3, trained_qwen3
from openlathe_sdk.harness.model import ModelBench, reference_logits

REFERENCE = {"int8_linear": "reference-int8-linear"}


def layer_of(context: BuildContext, name: str, outputs: int | list[int], weight: torch.Tensor) -> nn.Module:
    layer = (Linear if isinstance(outputs, int) else MergedLinear)(context, weight.shape[1], outputs)  # type: ignore[arg-type]
    layer.bind(name)
    shards = [None] if isinstance(outputs, int) else range(len(outputs))
    for shard, part in zip(shards, weight.split(outputs), strict=True):
        layer.load_weight("weight", shard, part)
    layer.pack()
    return layer


def quantizing(dtype: torch.dtype = torch.float32, **options: str) -> BuildContext:
    context = BuildContext(dtype=dtype)
    context.linear_method = Int8LinearMethod(context, options)
    return context


def test_rounded_weights_are_half_a_step_away_at_most() -> None:
    """More rows than are rounded at once, of any size, zeros among them."""
    weight = torch.randn(3 * BLOCK // 1000, 1000) * torch.logspace(-6, 6, 3 * BLOCK // 1000)[:, None]
    weight[7] = 0
    whole, scales = rounded(weight)
    assert whole.abs().amax() == 127
    exact = weight.double()
    error = (whole.double() * scales.double()[:, None] - exact).abs()
    assert (error <= scales.double()[:, None] * 0.5001).all()
    assert (scales.double() <= exact.abs().amax(1) / 126.99 + 1e-22).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_layer_errs_by_its_roundings_alone(dtype: torch.dtype) -> None:
    """Each weight and each input is half a step away at most: the bound that follows holds for every output."""
    weight, x = torch.randn(96, 200).to(dtype), torch.randn(9, 200).to(dtype)
    got = layer_of(quantizing(dtype), "mlp.gate_up_proj", [48, 48], weight)(x).double()
    w, v = weight.double(), x.double()
    half_w, half_x = (tensor.abs().amax(1, keepdim=True) / 254 * 1.001 for tensor in (w, v))
    bound = v.abs().sum(1, keepdim=True) @ half_w.T + half_x @ w.abs().sum(1, keepdim=True).T + 200 * half_x @ half_w.T
    exact = v @ w.T
    bound += exact.abs() * torch.finfo(dtype).eps
    assert ((got - exact).abs() <= bound).all()
    assert not torch.equal(got, exact)


@pytest.mark.parametrize(
    "name, outputs, skip", [("gate", 4, ""), ("model.lm_head", 64, "lm_head"), ("layers.0.o_proj", 64, "x,o_proj")]
)
def test_what_stays_plain(name: str, outputs: int, skip: str) -> None:
    """Few outputs, and what is left out by name; bit by bit the plain layer."""
    weight, x = torch.randn(outputs, 64), torch.randn(3, 64)
    got = layer_of(quantizing(skip=skip), name, outputs, weight)(x)
    assert torch.equal(got, layer_of(BuildContext(), name, outputs, weight)(x))


def test_experts_are_rounded_one_by_one() -> None:
    """Each as a layer of its own would be."""
    context, gate = quantizing(), Operators().silu_mul
    gate_up, down, x = torch.randn(3, 96, 64), torch.randn(3, 64, 48), torch.randn(5, 64)
    packed = context.linear_method.experts(gate_up, down, gate)  # type: ignore[attr-defined]
    chosen, weights = torch.tensor([[0], [1], [2], [1], [0]]), torch.ones(5, 1)
    single = context.linear_method.multiply  # type: ignore[attr-defined]
    alone = [single(down[e], None)(gate(single(gate_up[e], None)(x))) for e in range(3)]
    expected = torch.stack([alone[e][i] for i, [e] in enumerate(chosen.tolist())])
    assert torch.equal(packed(x, chosen, weights), expected)
    assert packed.nbytes < (gate_up.nbytes + down.nbytes) / 3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_provider_says_the_same(dtype: str) -> None:
    """Tokens of the native operator, where there is one, are those of the reference; so are their probabilities."""
    path = tiny_qwen3(dtype=dtype, tie=True)
    params = SamplingParams(temperature=0.0, max_tokens=24, logprobs=2)
    answers = []
    for kernels in ({}, REFERENCE):
        outputs = LLM(str(path), quantization="int8", kernels=kernels).generate(
            ["one two three", "lathe"], params, use_tqdm=False
        )
        answers.append([(part.token_ids, part.logprobs) for output in outputs for part in output.outputs])
    assert answers[0] == answers[1]


def test_logits_are_near_those_of_transformers() -> None:
    """Inputs and weights of a product that are spread like a normal distribution over 64 lie within 2.4 deviations, so
    that half a hundredth of a product is lost by each, 0.8 by both. Nine products follow each other here."""
    path = trained_qwen3()
    tokens = list(range(5, 105))
    config = EngineConfig(model=str(path), dtype="float32", device="cpu", block_size=8, quantization="int8")
    bench = ModelBench(make_plan(config, assemble()))
    (got,) = bench.step([(bench.sequence(), tokens)])
    exact = reference_logits(transformers.AutoModelForCausalLM.from_pretrained(path).float().eval(), tokens)
    assert 0 < (got - exact).norm() / exact.norm() < 9 * 0.008
