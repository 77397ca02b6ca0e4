"""How many blocks a plan gets, and what is said where they are too few."""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from openlathe.engine.kv_memory import BlockMemory, PagedGroup, allocate_pages, paged_groups, plan_blocks
from openlathe.spi import MLAKV, ConfigError, FullKV, KVLayout, KVSpec, SlidingKV

FULL = FullKV(kv_heads=2, dim_k=8, dim_v=8)
WINDOWED = SlidingKV(kv_heads=2, dim_k=8, dim_v=8, window=32)
LATENT = MLAKV(latent=8, rope=4)
PAGE = KVLayout(name="hnd", k_shape=(2, 16, 8), v_shape=(2, 16, 8))
BLOCK_BYTES = 2 * 4 * 2 * 2 * 16 * 8  # the pages of two layers in float32


def blocks(*specs: KVSpec, max_model_len: int = 1024, **settings: Any) -> BlockMemory:
    """Two layers a spec, steps of 64 tokens."""
    plan: Any = SimpleNamespace(
        max_model_len=max_model_len,
        block_size=16,
        max_num_seqs=3,
        max_num_batched_tokens=64,
        config=SimpleNamespace(**{"num_gpu_blocks_override": None, "kv_cache_memory_bytes": 2**30} | settings),
    )
    groups = [PagedGroup(slot, spec, (2 * slot, 2 * slot + 1)) for slot, spec in enumerate(specs)]
    return plan_blocks(plan, groups, [PAGE] * len(specs), torch.float32, torch.device("cpu"))


@pytest.mark.parametrize(
    "specs, length, per_request",
    [
        ((FULL,), 1024, 64),
        ((FULL,), 1025, 65),
        ((WINDOWED,), 1024, 7),  # (32 + 64) / 16 and one more
        ((FULL, WINDOWED), 1024, 64 + 7),
        ((FULL, WINDOWED), 100, 7 + 7),
        ((FULL, WINDOWED), 80, 5 + 5),
    ],
)
def test_one_longest_request_has_to_fit_and_no_more_is_taken_than_all_fill_in_time(
    specs: tuple[KVSpec, ...], length: int, per_request: int
) -> None:
    ever = 3 * len(specs) * -(-length // 16) + 1
    assert blocks(*specs, max_model_len=length) == BlockMemory(ever, BLOCK_BYTES)
    enough = blocks(*specs, max_model_len=length, num_gpu_blocks_override=per_request + 1)
    assert enough.num_blocks == per_request + 1


@pytest.mark.parametrize(
    "specs, override, fits",
    [
        ((FULL,), 64, 63 * 16),
        ((FULL,), 0, 0),
        ((WINDOWED,), 7, 6 * 16),
        ((FULL, WINDOWED), 71, 63 * 16),  # beyond its window's seven, a block of one group a block of tokens
        ((FULL, WINDOWED), 15, 7 * 16),
        ((FULL, WINDOWED), 14, 6 * 16),
    ],
)
def test_where_no_longest_request_fits_the_error_says_how_long_one_may_be(
    specs: tuple[KVSpec, ...], override: int, fits: int
) -> None:
    with pytest.raises(
        ConfigError, match=f"^The KV cache holds {fits:,} tokens but --max-model-len is 1,024; "
    ) as told:
        blocks(*specs, num_gpu_blocks_override=override)
    if fits:
        assert blocks(*specs, max_model_len=fits, num_gpu_blocks_override=override).num_blocks <= override
    wanted = int(str(told.value).split("at least ")[1].split(" bytes")[0].replace(",", ""))
    assert blocks(*specs, kv_cache_memory_bytes=wanted).num_blocks >= 2
    with pytest.raises(ConfigError):
        blocks(*specs, kv_cache_memory_bytes=wanted - 1)


@pytest.mark.parametrize(
    "counts, cut",
    [
        ({FULL: 4}, [4]),
        ({FULL: 12, WINDOWED: 12}, [12, 12]),
        ({FULL: 12, WINDOWED: 14}, [12, 14]),  # a cut would cost more than it saves
        ({FULL: 10, WINDOWED: 52}, [10, 10, 10, 11, 10, 11]),
        ({FULL: 1, WINDOWED: 2}, [1, 1, 1]),
        ({FULL: 1, WINDOWED: 40}, [1, 5, 5, 5, 5, 5, 5, 5, 5]),  # nor into any number of parts
        ({FULL: 2, LATENT: 9}, [2, 9]),  # pages of another shape are memory of their own
    ],
)
def test_groups_that_share_memory_have_about_as_many_layers(counts: dict[KVSpec, int], cut: list[int]) -> None:
    """So that a block of one is as full as a block of another, and every layer is in one group."""
    layers = iter(range(100))
    groups = [
        SimpleNamespace(spec=spec, layers=tuple(next(layers) for _ in range(count))) for spec, count in counts.items()
    ]
    plan: Any = SimpleNamespace(kv_groups=groups)
    paged = paged_groups(plan)
    assert [len(group.layers) for group in paged] == cut
    assert [layer for group in paged for layer in group.layers] == list(range(sum(counts.values())))
    assert all(group.spec == groups[group.slot].spec for group in paged)


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="large pages are asked for on Linux")
def test_pages_are_reserved_in_large_pages_and_not_touched() -> None:
    layout = KVLayout(name="hnd", k_shape=(2, 16, 128), v_shape=(2, 16, 128))
    group = PagedGroup(0, FullKV(kv_heads=2, dim_k=128, dim_v=128), (0,))
    pages = allocate_pages([group], [layout], 16_384, torch.bfloat16, torch.device("cpu"))[0]
    for page in pages:
        middle = page.data_ptr() + page.nbytes // 2
        area = next(area for area in _areas() if area["start"] <= middle < area["end"])
        assert "hg" in area["VmFlags"].split()
        assert int(area["Rss"].split()[0]) * 1024 < page.nbytes / 8


def _areas() -> Iterator[dict[str, Any]]:
    """The areas of this process's memory, as the kernel describes them."""
    area: dict[str, Any] = {}
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            start, end = line.split()[0].split("-")
            area = {"start": int(start, 16), "end": int(end, 16)}
        area[name] = value
        if name == "VmFlags":
            yield area
