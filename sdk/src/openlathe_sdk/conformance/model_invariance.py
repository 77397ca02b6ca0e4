"""Rules for what ``--batch-invariant`` promises of models: bit by bit, on operators that keep it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from openlathe.plugins.plan import Plan
from openlathe.plugins.registry import Registry
from openlathe.spi import PluginError, Provider

from ..harness.invariance import same
from ..harness.model import ModelBench, Running, plan_for, write_tiny
from ..harness.pooling import PoolingBench
from . import only

#: Tokens of the prompts that models are given.
PROMPTS = (30, 9, 61)

dtypes = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


def generates(capabilities: frozenset[str]) -> bool:
    return "generate" in capabilities


def pools(capabilities: frozenset[str]) -> bool:
    return not generates(capabilities)


@only(capabilities=generates)
@dtypes
def test_a_sequence_in_any_batch(provider: Provider, openlathe_registry: Registry, dtype: str) -> None:
    """A prompt's logits are those it has alone, bit by bit, beside prompts, chunks and single tokens of others."""
    bench = _bench(provider, openlathe_registry, dtype)
    prompts = _prompts(bench)
    alone = [_whole(bench, prompt) for prompt in prompts]
    runs = [bench.sequence() for _ in prompts]
    done: list[list[Tensor]] = [[] for _ in prompts]
    for sizes in ((10, 0, 35), (1, 9, 1), (19, 0, 25)):
        step = [(index, size) for index, size in enumerate(sizes) if size]
        fed = [(runs[i], prompts[i][runs[i].length : runs[i].length + size]) for i, size in step]
        for (index, _), logits in zip(step, bench.step(fed), strict=True):
            done[index].append(logits)
    for parts, expected in zip(done, alone, strict=True):
        _must_be_same(torch.cat(parts), expected)


@only(capabilities=generates)
@dtypes
@pytest.mark.parametrize("chunk", [1, 7, 32])
def test_a_prompt_in_any_chunks(provider: Provider, openlathe_registry: Registry, dtype: str, chunk: int) -> None:
    """In chunks of any size, down to token by token, it has the logits of the whole, bit by bit."""
    bench = _bench(provider, openlathe_registry, dtype)
    prompt = _prompts(bench)[2]
    sequence = bench.sequence()
    parts = [bench.step([(sequence, prompt[at : at + chunk])])[0] for at in range(0, len(prompt), chunk)]
    _must_be_same(torch.cat(parts), _whole(bench, prompt))


@only(capabilities=generates)
@dtypes
def test_a_prompt_behind_a_prefix_hit(provider: Provider, openlathe_registry: Registry, dtype: str) -> None:
    """What others have computed of a prefix serves as well, bit by bit, as computing it."""
    bench = _bench(provider, openlathe_registry, dtype)
    prompt = _prompts(bench)[2]
    first = bench.sequence()
    bench.step([(first, prompt[:40]), (bench.sequence(), prompt[:11])])
    second = Running([pool.fork(cached) for pool, cached in zip(bench.pools, first.cached, strict=True)])
    second.length = second.cached[0].length
    (logits,) = bench.step([(second, prompt[second.length :])])
    _must_be_same(logits, _whole(bench, prompt)[len(prompt) - len(logits) :])


@only(capabilities=pools)
@dtypes
def test_a_prompt_among_others(provider: Provider, openlathe_registry: Registry, dtype: str) -> None:
    """A model that pools answers a prompt among others as it does alone, bit by bit."""
    bench = PoolingBench(_plan(provider, openlathe_registry, dtype))
    prompts = bench.prompts()
    for together, prompt in zip(bench.answers(prompts), prompts, strict=True):
        assert same(together, bench.answers([prompt])[0]), f"a prompt of {len(prompt)} tokens differs from itself alone"


# -- how the rules look -------------------------------------------------------------------------------------------


def _whole(bench: ModelBench, prompt: Sequence[int]) -> Tensor:
    return bench.step([(bench.sequence(), prompt)])[0]


def _must_be_same(got: Tensor, expected: Tensor) -> None:
    wrong = [at for at in range(len(expected)) if not same(got[at], expected[at])]
    assert not wrong, f"{len(wrong)} of {len(expected)} tokens have other logits than alone, the first is {wrong[0]}"


def _bench(provider: Provider, registry: Registry, dtype: str) -> ModelBench:
    return ModelBench(_plan(provider, registry, dtype))


def _plan(provider: Provider, registry: Registry, dtype: str) -> Plan:
    checkpoint = write_tiny(provider, dtype=dtype)
    try:
        return plan_for(provider, registry, checkpoint, dtype, batch_invariant=True)
    except PluginError as error:
        plan_for(provider, registry, checkpoint, dtype)  # what fails without the promise, too, is no reason to skip
        pytest.skip(str(error))


def _prompts(bench: ModelBench) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    vocab_size = bench.plan.model_config().vocab_size
    return [torch.randint(vocab_size, (length,), generator=generator).tolist() for length in PROMPTS]
