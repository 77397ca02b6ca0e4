"""Native weights that were written down multiply as those that were packed, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from openlathe_plugin_cpu import build, int4_linear, int8_linear, linear
from torch import Tensor

from openlathe import LLM, SamplingParams
from openlathe.engine.packed_file import PackedFile, PackedWriter, StoredModule
from openlathe.kernels.silu_mul import silu_mul
from openlathe.kernels.stored import StoredWeight
from openlathe_sdk.checkpoints import tiny_qwen3

pytestmark = pytest.mark.skipif(bool(build.why_missing()), reason=build.why_missing() or "compiled")


def weight(outputs: int, inputs: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(1)).to(dtype)


def eight(bias: Tensor | None) -> Any:
    values = weight(70, 100, torch.float32).mul(40).clamp(-127, 127).to(torch.int8)
    return int8_linear.int8_linear(values, torch.rand(70) + 0.5, bias)


def four(bias: Tensor | None, *, points: bool) -> Any:
    values = torch.randint(0, 16, (70, 64), dtype=torch.uint8)
    zeros = torch.randint(0, 16, (70, 2), dtype=torch.uint8) if points else None
    return int4_linear.int4_linear(values, torch.rand(70, 2).half() + 0.5, zeros, bias)


WEIGHTS = {
    "bfloat16": lambda bias: linear.linear(weight(70, 100, torch.bfloat16), bias),
    "float32": lambda bias: linear.linear(weight(70, 100, torch.float32), bias),
    "gated": lambda bias: linear.linear(weight(70, 100, torch.float32), bias, silu_mul),
    "int8": eight,
    "int4": lambda bias: four(bias, points=False),
    "int4 with zeros": lambda bias: four(bias, points=True),
}


@pytest.mark.parametrize("biased", [False, True], ids=["", "bias"])
@pytest.mark.parametrize("kind", WEIGHTS)
def test_a_restored_weight_multiplies_alike(kind: str, biased: bool, tmp_path: Path) -> None:
    packed = WEIGHTS[kind](torch.randn(70) if biased else None)
    if not isinstance(packed, StoredWeight):
        packed = packed.inner
    facts, tensors = packed.stored()
    writer = PackedWriter(tmp_path / "a.packed")
    writer.add("m", StoredModule(target="", layout=packed.layout(), facts=facts), tensors)
    writer.finish()
    file = PackedFile(tmp_path / "a.packed")
    again = type(packed).restored(file.modules["m"].facts, file.tensors("m"))
    assert again.nbytes == packed.nbytes
    for rows in (1, 5, 40):
        x = torch.randn(rows, packed.inputs).to(getattr(packed, "dtype", torch.float32))
        assert torch.equal(again(x), packed(x))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("tie", [False, True], ids=["", "tied"])
def test_tokens_are_equal_with_and_without_kept_weights(dtype: str, tie: bool, tmp_path: Path) -> None:
    checkpoint = tiny_qwen3(tmp_path / "model", tie=tie)
    prompts, params = [[5, 6, 7], [9] * 30], SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
    tokens = []
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        settings = {} if cache is None else {"packed_cache_dir": str(cache)}
        llm = LLM(str(checkpoint), dtype=dtype, max_model_len=128, **settings)
        outputs = llm.generate(prompts, params, use_tqdm=False)
        tokens.append([list(output.outputs[0].token_ids) for output in outputs])
    assert tokens[0] == tokens[1] == tokens[2]
    (file,) = (tmp_path / "cache").iterdir()
    assert len(PackedFile(file).modules) == 2 * 4 + 1
