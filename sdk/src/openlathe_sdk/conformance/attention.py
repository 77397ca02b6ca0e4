"""Rules for attention backends, each step compared with attention by its definition over sequences without pages.

Pages are handed out shuffled, hold NaN where nothing was written, and unused table entries point at a poisoned page:
reading one slot too many shows.
"""

from __future__ import annotations

import random

import pytest
import torch

from openlathe.spi import Provider

from ..harness.attention import Bench, Heads
from ..harness.latent_attention import bench_of

dtypes = pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])


@dtypes
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 47, 100])
def test_prefill(provider: Provider, dtype: str, length: int) -> None:
    """A whole prompt in one step, of one token, of full blocks, of one token more or less."""
    bench = bench_of(provider, dtype)
    bench.step([(bench.pool.sequence(), length)])


@dtypes
def test_decode(provider: Provider, dtype: str) -> None:
    """One token for each of several sequences, over block borders."""
    bench = bench_of(provider, dtype)
    running = bench.sequences(1, 14, 15, 16, 40)
    for _ in range(4):
        bench.step([(sequence, 1) for sequence in running])


@dtypes
def test_chunked_prefill(provider: Provider, dtype: str) -> None:
    """A chunk sees the chunks before it; chunks end anywhere in a block."""
    bench = bench_of(provider, dtype)
    sequence = bench.pool.sequence()
    for chunk in (5, 11, 16, 1, 30):
        bench.step([(sequence, chunk)])


@dtypes
def test_mixed_batch(provider: Provider, dtype: str) -> None:
    """Prompts, chunks and single tokens in one step, in any order."""
    bench = bench_of(provider, dtype)
    decoding, chunked, nearly = bench.sequences(20, 17, 31)
    bench.step([(bench.pool.sequence(), 7), (decoding, 1), (chunked, 9), (bench.pool.sequence(), 1), (nearly, 2)])


def test_steps_of_every_size(provider: Provider) -> None:
    """Buffers that are kept between steps may not remember an earlier, larger or smaller step."""
    bench = bench_of(provider, num_pages=256)
    choose = random.Random(1)
    running = [bench.pool.sequence() for _ in range(8)]
    for _ in range(12):
        batch = choose.sample(running, choose.randint(1, len(running)))
        bench.step([(sequence, choose.choice([1, 1, 1, 3, 19])) for sequence in batch])


@pytest.mark.parametrize("heads, kv_heads", [(1, 1), (4, 4), (4, 1), (6, 2), (8, 2)])
def test_grouped_queries(provider: Provider, heads: int, kv_heads: int) -> None:
    """Query heads share key heads in order, whatever the ratio."""
    bench = Bench(provider, shape=Heads(heads, kv_heads))
    first, second = bench.sequences(18, 3)
    bench.step([(first, 1), (second, 6)])


@pytest.mark.parametrize("size", [16, 64, 80, 96, 128, 256])
def test_head_sizes(provider: Provider, size: int) -> None:
    """Every head size it declares or does not refuse."""
    bench = Bench(provider, shape=Heads(dim_k=size, dim_v=size))
    first, second = bench.sequences(18, 3)
    bench.step([(first, 1), (second, 6)])


def test_values_of_another_size(provider: Provider) -> None:
    """Keys and values need not be equally long."""
    bench = Bench(provider, shape=Heads(dim_k=48, dim_v=32))
    first, second = bench.sequences(18, 3)
    bench.step([(first, 1), (second, 6)])


@pytest.mark.parametrize("block_size", [1, 8, 16, 32, 64])
def test_block_sizes(provider: Provider, block_size: int) -> None:
    """Every block size it declares."""
    bench = bench_of(provider, block_size=block_size, num_pages=160)
    first, second = bench.sequences(2 * block_size, 3 * block_size - 1)
    bench.step([(first, 1), (second, 2), (bench.pool.sequence(), block_size + 1)])


@dtypes
@pytest.mark.parametrize("window", [1, 7, 16, 1000])
def test_sliding_window(provider: Provider, dtype: str, window: int) -> None:
    """A query sees the last ``window`` positions, its own included; what lies before them is not even read."""
    bench = Bench(provider, dtype, window=window)
    first, second = bench.sequences(40, 25)
    for sequence in (first, second):
        bench.pool.leave_behind(sequence, window)
    bench.step([(first, 1), (second, 12), (bench.pool.sequence(), 30)])


def test_soft_cap(provider: Provider) -> None:
    """Scores are bent by tanh before the softmax."""
    bench = Bench(provider, soft_cap=0.7)
    first, second = bench.sequences(20, 3)
    bench.step([(first, 1), (second, 6)])


def test_sinks(provider: Provider) -> None:
    """A sink takes its share of the softmax and brings no value."""
    bench = Bench(provider, with_sinks=True)
    first, second = bench.sequences(20, 3)
    bench.step([(first, 1), (second, 6)])


@dtypes
def test_a_cache_of_int8(provider: Provider, dtype: str) -> None:
    """Prompts, chunks and single tokens over keys and values that were rounded on their way in."""
    bench = Bench(provider, dtype, kv_dtype="int8")
    first, second = bench.sequences(20, 3)
    bench.step([(first, 1), (second, 6), (bench.pool.sequence(), 40)])


def test_layers_share_a_plan(provider: Provider) -> None:
    """The plan is of the step, not of the layer: what one layer leaves in it does not reach the next."""
    bench = bench_of(provider, num_layers=3)
    first, second = bench.sequences(20, 3)
    bench.step([(first, 1), (second, 6)])


@pytest.mark.parametrize("slack", [1, 5, 20])
def test_lengths_on_the_host_are_upper_bounds(provider: Provider, slack: int) -> None:
    """The exact length is on the device; slots between it and the bound are allocated and not yet written."""
    bench = bench_of(provider)
    first, second = bench.sequences(20, 3)
    bench.step([(first, 1), (second, 6)], slack=slack)


def test_shared_prefix(provider: Provider) -> None:
    """Sequences that share their first blocks answer as sequences with copies of them."""
    bench = bench_of(provider)
    (parent,) = bench.sequences(37)
    children = [bench.fork(parent) for _ in range(3)]
    bench.step([(child, 4 + index) for index, child in enumerate(children)], common_prefix_blocks=2)
    bench.step([(child, 1) for child in children], common_prefix_blocks=2)


def test_other_pages_stay_untouched(provider: Provider) -> None:
    """A step writes the slots of its own tokens and no others."""
    bench = bench_of(provider)
    pages = bench.layers[0].pages
    fresh = [page.clone() for page in pages]
    bystander, writer = bench.sequences(33, 18)
    before = [page.clone() for page in pages]
    bench.step([(writer, 3)])
    unused = [page for page in range(bench.num_pages) if page not in bystander.pages + writer.pages]
    for untouched, old, new in zip(fresh, before, pages, strict=True):
        assert torch.equal(_bits(old[bystander.pages]), _bits(new[bystander.pages])), "another sequence's page changed"
        assert torch.equal(_bits(untouched[unused]), _bits(new[unused])), "a page that nobody owns was written"


# -- whole prompts, both ways -------------------------------------------------------------------------------------


@dtypes
@pytest.mark.parametrize("length", [1, 2, 63, 100, 700])
def test_a_prompt_both_ways(provider: Provider, dtype: str, length: int) -> None:
    """Every token sees the whole prompt; nothing is read from pages, and nothing is written to them."""
    Bench(provider, dtype, encoder=True, num_pages=128).prompts(length)


@dtypes
@pytest.mark.parametrize("window", [None, 1, 9, 64, 1000])
def test_prompts_both_ways_in_a_batch(provider: Provider, dtype: str, window: int | None) -> None:
    """Prompts of equal and of different lengths in one step do not see each other, with a window or without."""
    bench = Bench(provider, dtype, encoder=True, window=window, num_pages=256)
    bench.prompts(30, 1, 30, 170, 9)
    bench.prompts(64, 65, 64, 9, 9, 200)
    bench.prompts(12, 12, 12)


@pytest.mark.parametrize("length", [63, 64, 65, 127, 128, 129, 190, 192, 193, 500])
@pytest.mark.parametrize("window", [1, 2, 33, 64, 65, 129])
def test_a_window_on_either_side(provider: Provider, length: int, window: int) -> None:
    """A position sees those less than ``window`` positions away, before it and behind it, however long the prompt."""
    Bench(provider, encoder=True, window=window, num_pages=128).prompts(length)


@pytest.mark.parametrize("heads, kv_heads", [(1, 1), (4, 4), (4, 1), (6, 2)])
@pytest.mark.parametrize("size", [16, 64, 80])
def test_heads_both_ways(provider: Provider, heads: int, kv_heads: int, size: int) -> None:
    """Query heads share key heads in order, whatever the ratio and the size."""
    Bench(provider, shape=Heads(heads, kv_heads, size, size), encoder=True, num_layers=2).prompts(20, 3, 20)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """NaN differs from itself; its bits do not."""
    return tensor.contiguous().view(torch.uint8)
