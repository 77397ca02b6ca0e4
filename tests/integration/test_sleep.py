"""Sleep in one process: memory that is given back to the system, and the same tokens after waking."""

from __future__ import annotations

import gc
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from openlathe import LLM, SamplingParams
from openlathe.layers.attention import attention_layers
from openlathe.spi import InvalidRequest
from openlathe_sdk.checkpoints import tiny_qwen3

GREEDY = SamplingParams(temperature=0, max_tokens=16, ignore_eos=True)
PROMPTS = [[5, 6, 7], list(range(10, 50))]
MIB = 2**20
KV_BYTES = 192 * MIB


def tokens(llm: LLM) -> list[list[int]]:
    return [output.outputs[0].token_ids for output in llm.generate(PROMPTS, GREEDY, use_tqdm=False)]


def anonymous_memory() -> int:
    """Resident bytes of this process that no file stands behind."""
    found = re.search(r"^RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def runner_of(llm: LLM) -> Any:
    return llm._core.executor._runner  # type: ignore[attr-defined]


@pytest.fixture
def llm(tiny_checkpoint: Path) -> LLM:
    return LLM(str(tiny_checkpoint), kv_cache_memory_bytes=KV_BYTES)


@pytest.mark.parametrize("level", [1, 2])
def test_the_same_tokens_after_waking(llm: LLM, level: int) -> None:
    expected = tokens(llm)
    assert llm._core.stats().sleep_level == 0
    llm.sleep(level)
    llm.sleep(level)
    assert llm._core.is_sleeping()
    assert llm._core.stats().sleep_level == level
    with pytest.raises(InvalidRequest, match="asleep"):
        tokens(llm)
    llm.wake_up()
    llm.wake_up()
    assert llm._core.stats().sleep_level == 0
    first = llm.generate(PROMPTS[1], GREEDY, use_tqdm=False)[0]
    assert first.num_cached_tokens == 0, "the content of the KV cache is gone, and so must be its index"
    assert tokens(llm) == expected


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_goes_back_to_the_system(llm: LLM) -> None:
    with torch.inference_mode():
        for layer in attention_layers(runner_of(llm).model):
            for pages in layer.pages:
                pages.zero_()  # or they would not be resident
    kv_bytes = llm._core.facts["kv_cache_bytes"]
    assert 0.9 * KV_BYTES < kv_bytes <= KV_BYTES
    gc.collect()
    awake = anonymous_memory()
    llm.sleep()
    asleep = anonymous_memory()
    assert abs(awake - asleep - kv_bytes) < 8 * MIB
    llm.wake_up()
    assert anonymous_memory() - asleep < 8 * MIB, "pages are reserved, and resident when they are used"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_level_two_gives_up_the_weights() -> None:
    # glibc may keep the freed matrix that lies last in a thread's arena, if it is below 32 MiB: one of many here.
    llm = LLM(str(tiny_qwen3(hidden_size=2048)))
    expected, weights = tokens(llm), llm._core.facts["weight_bytes"]
    assert weights > 96 * MIB
    llm.sleep(1)
    gc.collect()
    with_weights = anonymous_memory()
    llm.wake_up()
    llm.sleep(2)
    assert with_weights - anonymous_memory() > 0.8 * weights
    llm.wake_up()
    assert tokens(llm) == expected


@pytest.mark.parametrize("order", [["weights", "kv_cache"], ["kv_cache", "weights"]])
def test_parts_wake_one_after_the_other(llm: LLM, order: list[str]) -> None:
    expected = tokens(llm)
    llm.sleep(2)
    llm.wake_up(order[:1])
    llm.wake_up(order[:1])
    assert llm._core.is_sleeping()
    with pytest.raises(InvalidRequest, match="asleep"):
        tokens(llm)
    llm.wake_up(order[1:])
    assert not llm._core.is_sleeping()
    assert tokens(llm) == expected


def test_weights_that_wait_in_the_hosts_memory(tiny_checkpoint: Path) -> None:
    """What a GPU's weights do, here from the host's memory to the host's memory."""
    llm = LLM(str(tiny_checkpoint), kernels={"linear": "reference-linear"})
    expected, runner = tokens(llm), runner_of(llm)
    runner._sleeper.stow_weights()
    packed = [module.packed.weight for module in runner.model.modules() if hasattr(module, "packed")]
    assert packed
    storages = [weight.untyped_storage() for weight in [*runner.model.parameters(), *packed]]
    stowed = [storage for storage in storages if storage.resizable()]  # not those mapped from the checkpoint
    assert stowed
    assert not any(storage.nbytes() for storage in stowed)
    llm.sleep()
    llm.wake_up()
    assert tokens(llm) == expected


def test_what_is_refused(llm: LLM) -> None:
    for level in (0, 3):
        with pytest.raises(InvalidRequest, match="give 1 or 2"):
            llm.sleep(level)
    with pytest.raises(InvalidRequest, match="'lora'"):
        llm.wake_up(["lora"])
    stream = llm.stream(PROMPTS[0], GREEDY)
    next(stream)
    with pytest.raises(InvalidRequest, match="running"):
        llm.sleep()
    stream.close()
    llm.sleep()
    with pytest.raises(InvalidRequest, match="level 1 already"):
        llm.sleep(2)
    llm.wake_up()
    assert len(tokens(llm)) == 2
