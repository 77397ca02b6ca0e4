"""How many KV blocks there are and where their pages lie.

All groups share one pool: block b of a group is page b in each of the group's layers. Groups whose pages have the
same shape share memory, the j-th layer of each using the j-th buffer: a block belongs to one group at a time, so there
are as many buffers as the largest of those groups has layers, each of ``num_blocks`` pages. A group of fewer layers
would leave the rest of its blocks empty, so that large groups are cut to about the size of the smallest.
"""

from __future__ import annotations

import ctypes
import math
import mmap
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from ..devices import cpu_kv_cache_bytes
from ..spi.errors import ConfigError
from ..spi.kv import FullKV, KVSpec
from ..spi.protocols import KVLayout, KVPages
from .kv_cache import most_blocks

if TYPE_CHECKING:
    from ..plugins.plan import Plan


#: By how much groups that share memory may differ in layers, and into how many one may be cut: every group costs a
#: block table and a plan a step.
SLACK, MOST_PARTS = 1.25, 8
#: Bytes of a large page on the processors that have them.
LARGE_PAGE = 2 << 20


@dataclass(frozen=True)
class PagedGroup:
    """A KV group of the plan that has pages, or a part of one; ``slot`` is the group's number in the plan."""

    slot: int
    spec: KVSpec
    layers: tuple[int, ...]


@dataclass(frozen=True)
class BlockMemory:
    num_blocks: int
    block_bytes: int


def paged_groups(plan: Plan) -> list[PagedGroup]:
    """The plan's groups that keep something per token, cut where groups of one page size differ in layers."""
    paged = [(slot, group) for slot, group in enumerate(plan.kv_groups) if group.spec.elements_per_token]
    smallest: dict[tuple[int, ...], int] = {}
    for _, group in paged:
        shape = _page_shape(group.spec)
        smallest[shape] = min(smallest.get(shape, len(group.layers)), len(group.layers))
    return [
        PagedGroup(slot, group.spec, layers)
        for slot, group in paged
        for layers in _cut(group.layers, smallest[_page_shape(group.spec)])
    ]


def _page_shape(spec: KVSpec) -> tuple[int, ...]:
    """What two specs must have in common for their pages to be of one shape."""
    return (spec.kv_heads, spec.dim_k, spec.dim_v) if isinstance(spec, FullKV) else (spec.elements_per_token,)


def _cut(layers: tuple[int, ...], size: int) -> list[tuple[int, ...]]:
    """Parts of about ``size`` layers, none larger than it by more than ``SLACK`` unless they would be too many."""
    parts = min(max(math.ceil(len(layers) / (SLACK * size)), 1), MOST_PARTS)
    bounds = [len(layers) * part // parts for part in range(parts + 1)]
    return [layers[start:end] for start, end in pairwise(bounds)]


def plan_blocks(
    plan: Plan, groups: Sequence[PagedGroup], layouts: Sequence[KVLayout], dtype: torch.dtype, device: torch.device
) -> BlockMemory:
    """As many blocks as the memory allows, up to what ``max_num_seqs`` longest requests fill in the course of time.

    Raises ``ConfigError`` where not even one request of ``max_model_len`` fits.
    """
    block_bytes = dtype.itemsize * sum(
        _page_elements(layout) * count for layout, count in _buffer_counts(groups, layouts).items()
    )
    if not block_bytes:
        return BlockMemory(num_blocks=2, block_bytes=0)
    most = [most_blocks(group.spec, plan.block_size, plan.max_num_batched_tokens) for group in groups]

    def needed(length: int) -> int:
        """Blocks of a request whose tokens fill ``length`` blocks."""
        return sum(min(length, blocks) for blocks in most)

    longest = -(-plan.max_model_len // plan.block_size)
    per_request = needed(longest)
    override = plan.config.num_gpu_blocks_override
    affordable = _kv_cache_bytes(plan, device) // block_bytes if override is None else override
    # Those that have left a window count as well: another request may go on from them.
    num_blocks = min(affordable, longest * len(groups) * plan.max_num_seqs + 1)
    if num_blocks - 1 < per_request:
        fits = (bisect_right(range(longest), max(num_blocks - 1, 0), key=needed) - 1) * plan.block_size
        raise ConfigError(
            f"The KV cache holds {fits:,} tokens but --max-model-len is {plan.max_model_len:,}; lower it, or give the "
            f"cache at least {(per_request + 1) * block_bytes:,} bytes with --kv-cache-memory-bytes."
        )
    return BlockMemory(num_blocks, block_bytes)


def allocate_pages(
    groups: Sequence[PagedGroup],
    layouts: Sequence[KVLayout],
    num_blocks: int,
    dtype: torch.dtype,
    device: torch.device,
) -> dict[int, KVPages]:
    """Layer -> its pages. Memory is reserved, not touched: pages become resident as blocks are first used."""
    buffers = {
        layout: [_pages(layout, num_blocks, dtype, device) for _ in range(count)]
        for layout, count in _buffer_counts(groups, layouts).items()
    }
    return {
        layer: pages
        for group, layout in zip(groups, layouts, strict=True)
        for layer, pages in zip(group.layers, buffers[layout], strict=False)
    }


def buffers_of(groups: Sequence[PagedGroup], pages: Mapping[int, KVPages]) -> list[tuple[KVPages, list[int]]]:
    """Each piece of memory once, with the numbers of the groups that share it."""
    buffers: dict[int, tuple[KVPages, list[int]]] = {}
    for number, group in enumerate(groups):
        for layer in group.layers:
            buffers.setdefault(id(pages[layer]), (pages[layer], []))[1].append(number)
    return list(buffers.values())


def _pages(layout: KVLayout, num_blocks: int, dtype: torch.dtype, device: torch.device) -> KVPages:
    k, v = (torch.empty(num_blocks, *shape, dtype=dtype, device=device) for shape in (layout.k_shape, layout.v_shape))
    for page in (k, v):
        in_large_pages(page.untyped_storage())
    return KVPages(k, v)


def in_large_pages(storage: torch.UntypedStorage) -> None:
    """Asks the system for its large pages, with which scattered blocks are found faster; nothing is touched by that.

    Where the system has none, or is none that can be asked, memory stays as it is.
    """
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    start = -(-storage.data_ptr() // LARGE_PAGE) * LARGE_PAGE
    length = (storage.data_ptr() + storage.nbytes() - start) // LARGE_PAGE * LARGE_PAGE
    if advice is not None and storage.device.type == "cpu" and length > 0:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), advice)


def _buffer_counts(groups: Sequence[PagedGroup], layouts: Sequence[KVLayout]) -> dict[KVLayout, int]:
    """For each page shape, the number of buffers: the layers of the largest group that uses it."""
    counts: dict[KVLayout, int] = {}
    for group, layout in zip(groups, layouts, strict=True):
        counts[layout] = max(counts.get(layout, 0), len(group.layers))
    return counts


def _page_elements(layout: KVLayout) -> int:
    return math.prod(layout.k_shape) + math.prod(layout.v_shape)


def _kv_cache_bytes(plan: Plan, device: torch.device) -> int:
    wanted = plan.config.kv_cache_memory_bytes
    if wanted is not None:
        return wanted
    if device.type == "cpu":
        return cpu_kv_cache_bytes()
    free, total = torch.cuda.mem_get_info(device)
    return int(total * plan.config.gpu_memory_utilization) - (total - free)
