"""Layers and models on weights that were rounded to four bits as they were loaded."""

from __future__ import annotations

import pytest
import torch
import transformers
from openlathe_plugin_int4 import rounding
from openlathe_plugin_int4.method import Int4LinearMethod
from openlathe_plugin_int4.rounding import rounded
from openlathe_plugin_int8.method import Int8LinearMethod
from openlathe_plugin_int8.method import rounded as rounded_to_int8
from torch import Tensor, nn

from openlathe import LLM, SamplingParams
from openlathe.config import EngineConfig
from openlathe.kernels import Operators
from openlathe.layers.context import BuildContext
from openlathe.layers.heads import LMHead
from openlathe.layers.linear import Linear
from openlathe.plugins.assemble import assemble
from openlathe.plugins.plan import make_plan
from openlathe.spi import ConfigError
from openlathe_sdk.checkpoints import tiny_qwen3, trained_qwen3
from openlathe_sdk.harness.model import ModelBench, reference_logits

REFERENCE = {"int4_linear": "reference-int4-linear", "int8_linear": "reference-int8-linear"}


def restored(whole: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    groups = whole.view(*scales.shape, -1).double() - zeros.double().unsqueeze(-1)
    return (groups * scales.double().unsqueeze(-1)).view(whole.shape)


def quantizing(**options: object) -> BuildContext:
    context = BuildContext()
    context.linear_method = Int4LinearMethod(context, options)
    return context


def packed(layer: Linear, weight: Tensor, name: str = "layers.0.o_proj") -> nn.Module:
    layer.bind(name)
    layer.load_weight("weight", None, weight)
    layer.pack()
    return layer


@pytest.mark.parametrize("group", [32, 64, 128])
def test_rounded_weights_lie_near(group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a search no weight is further from its grid than half a step, or what the scale's own rounding moves the
    far end by; the search makes no group worse."""
    weight = torch.randn(300, 512) * torch.logspace(-4, 4, 300)[:, None]
    weight[3], weight[4] = 0, weight[4].abs()
    found = rounded(weight, group)
    monkeypatch.setattr(rounding, "SPANS", (1.0,))
    whole, scales, zeros = rounded(weight, group)
    assert whole.max() <= 15
    assert zeros.max() <= 15
    error = (restored(whole, scales, zeros) - weight.double()).view(*scales.shape, -1)
    assert (error.abs().amax(-1) <= scales.double() * (0.5 + 0.5 + 15 / 256)).all()
    better = (restored(*found) - weight.double()).view(*scales.shape, -1)
    assert (better.square().sum(-1) <= error.square().sum(-1) * (1 + 1e-6)).all()
    assert better.square().sum() < error.square().sum()


def test_a_layer_errs_as_its_weights_do() -> None:
    """What is left beside the weights' roundings is that of the inputs, in eight bits group by group."""
    weight, x = torch.randn(64, 256), torch.randn(7, 256)
    got = packed(Linear(quantizing(group_size=32), 256, 64), weight)(x).double()
    near, v = restored(*rounded(weight, 32)), x.double()
    half = v.view(7, 8, 32).abs().amax(-1) / 254 * 1.001
    bound = torch.einsum("tg,ng->tn", half, near.view(64, 8, 32).abs().sum(-1)) + 1e-4
    assert ((got - v @ near.T).abs() <= bound).all()


@pytest.mark.parametrize("head, bits", [("int8", 8), ("int4", 4)])
def test_heads_are_in_eight_bits_unless_asked(head: str, bits: int) -> None:
    weight, x = torch.randn(96, 64), torch.randn(3, 64)
    context = quantizing(head=head)
    layer = packed(LMHead(context, 64, 96), weight, "lm_head")
    method = context.linear_method
    assert isinstance(method, Int4LinearMethod)
    expected = (method.multiply if bits == 8 else method.multiply_in_groups)(weight, None)
    assert torch.equal(layer(x), expected(x))


def test_experts_are_rounded_one_by_one() -> None:
    context, gate = quantizing(group_size=32), Operators().silu_mul
    gate_up, down, x = torch.randn(2, 128, 64), torch.randn(2, 64, 64), torch.randn(2, 64)
    method = context.linear_method
    assert isinstance(method, Int4LinearMethod)
    experts = method.experts(gate_up, down, gate)
    got = experts(x, torch.tensor([[1], [0]]), torch.ones(2, 1))
    for row, expert in ((0, 1), (1, 0)):
        inner = gate(method.multiply_in_groups(gate_up[expert], None)(x[row : row + 1]))
        assert torch.equal(got[row], method.multiply_in_groups(down[expert], None)(inner)[0])
    with pytest.raises(ConfigError, match="48 inputs of the experts' down_proj"):
        method.experts(gate_up[:, :96], down[:, :, :48], gate)


@pytest.mark.parametrize(
    "inputs, options, told",
    [
        (96, {}, "groups of 64 do not divide the 96 inputs of layers.0.o_proj; .*group_size=32"),
        (100, {}, "100 inputs of layers.0.o_proj; use --quantization int8"),
        (64, {"group_size": 48}, "group_size=48: it is one of 32, 64, 128"),
        (64, {"head": "int2"}, "head=int2: it is one of int8, int4"),
    ],
)
def test_what_cannot_be_is_refused(inputs: int, options: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        packed(Linear(quantizing(**options), inputs, 64), torch.randn(64, inputs))


def test_layers_that_are_left_out_need_no_group() -> None:
    weight, x = torch.randn(64, 100), torch.randn(3, 100)
    layer = packed(Linear(quantizing(skip="o_proj"), 100, 64), weight)
    assert torch.equal(layer(x), x @ weight.T)
    assert issubclass(Int4LinearMethod, Int8LinearMethod)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_provider_says_the_same(dtype: str) -> None:
    """Tokens of the native operators, where there are some, are those of the references; so are their probabilities."""
    path = tiny_qwen3(dtype=dtype)
    params = SamplingParams(temperature=0.0, max_tokens=24, logprobs=2)
    answers = []
    for kernels in ({}, REFERENCE):
        outputs = LLM(str(path), quantization="int4", kernels=kernels).generate(
            ["one two three", "lathe"], params, use_tqdm=False
        )
        answers.append([(part.token_ids, part.logprobs) for output in outputs for part in output.outputs])
    assert answers[0] == answers[1]


def test_logits_are_those_of_the_rounded_weights() -> None:
    """transformers on weights that were rounded and restored: what is left are the roundings of inputs. Those that are
    spread like a normal distribution over 64 lie within 2.4 deviations, of which half a hundredth of a product is lost;
    nine products follow each other here."""
    path = trained_qwen3()
    tokens = list(range(5, 105))
    config = EngineConfig(model=str(path), dtype="float32", device="cpu", block_size=8, quantization="int4")
    bench = ModelBench(make_plan(config, assemble()))
    (got,) = bench.step([(bench.sequence(), tokens)])
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path).float().eval()
    plain = reference_logits(theirs, tokens)
    for name, module in theirs.named_modules():
        if isinstance(module, nn.Linear):
            weight = module.weight.detach()
            whole, scales = rounded_to_int8(weight)
            near = whole * scales[:, None] if name == "lm_head" else restored(*rounded(weight, 64)).float()
            module.weight = nn.Parameter(near)
    exact = reference_logits(theirs, tokens)
    assert (got - exact).norm() / exact.norm() < 9 * 0.006
    assert (got - plain).norm() > 2 * (got - exact).norm()
