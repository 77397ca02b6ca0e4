"""Steps that are captured and replayed answer as those that Python walks through."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from openlathe_plugin_cpu import build
from openlathe_plugin_cpu.capture import Memory, capture
from openlathe_plugin_cpu.norms import rms_norm

from openlathe import LLM, SamplingParams
from openlathe_sdk.checkpoints import tiny_qwen3

pytestmark = pytest.mark.skipif(bool(build.why_missing()), reason=build.why_missing() or "compiled")

PROMPTS = [[5, 6, 7, 8], [9] * 40, [3, 4] * 9, [11]]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("settings", [{}, {"batch_invariant": True}, {"async_scheduling": False}], ids=str)
def test_the_tokens_are_those_of_eager_steps(dtype: str, settings: dict[str, Any]) -> None:
    """Requests that come and go, so that steps of every size are captured, and seen again in another order."""
    tokens = []
    for eager in (False, True):
        llm = LLM(str(tiny_qwen3()), dtype=dtype, max_model_len=128, enforce_eager=eager, **settings)
        graphs = llm._core.executor._runner.graphs
        found = []
        for count in (4, 2, 3, 4):
            lengths = [SamplingParams(temperature=0, max_tokens=6 + 5 * i, ignore_eos=True) for i in range(count)]
            outputs = llm.generate(PROMPTS[:count], lengths, use_tqdm=False)
            found.append([list(output.outputs[0].token_ids) for output in outputs])
        tokens.append(found)
        if eager:
            assert graphs is None
        else:
            assert graphs is not None
            assert graphs.obstacle == ""
            assert set(graphs._replays) == {1, 2, 3, 4}
    assert tokens[0] == tokens[1]


def test_memory_is_used_again_when_its_tensor_is_gone() -> None:
    memory = Memory()
    memory.open()
    first = memory.allocate((3, 5), torch.float32)
    part = first.view(5, 3)[1:]
    place = first.data_ptr()
    del first
    assert memory.allocate((15,), torch.float32).data_ptr() != place, "a view still holds it"
    del part
    assert memory.allocate((15,), torch.float32).data_ptr() == place
    memory.open()
    assert place % 64 == 0


def test_what_torch_computes_is_told() -> None:
    x, weight = torch.ones(2, 8), torch.ones(8)
    captured = capture(lambda: rms_norm(x, weight, 1e-6) * 2)
    assert captured.replay is None
    assert captured.obstacle == "aten::mul.Tensor has no native operator"
