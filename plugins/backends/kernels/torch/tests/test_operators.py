"""What the conformance suite cannot see: that the fast paths are taken, and what happens where they cannot be."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from openlathe_plugin_torch import linear as linear_module
from openlathe_plugin_torch import pieces
from openlathe_plugin_torch.attend import attend
from openlathe_plugin_torch.facts import refuse_onednn
from openlathe_plugin_torch.linear import OneDNNLinear, linear
from openlathe_plugin_torch.norms import rms_norm

from openlathe.kernels.attend import AttendPlan
from openlathe.kernels.attend import attend as reference
from openlathe.kernels.linear import PlainLinear
from openlathe.kernels.rms_norm import rms_norm as reference_rms_norm
from openlathe.spi import DeviceFacts, KernelQuery, KVPages

KV_HEADS, BLOCK_SIZE, DIM = 2, 4, 8

needs_bf16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN cannot multiply bfloat16 on this CPU"
)


def batch(query_lens: list[int], seq_lens: list[int]) -> tuple[torch.Tensor, KVPages, AttendPlan]:
    """Random pages that hold NaN behind each sequence's end, shuffled, with garbage in unused table entries."""
    generator = torch.Generator().manual_seed(0)
    width = max(-(-length // BLOCK_SIZE) for length in seq_lens) + 1
    order = torch.randperm(len(seq_lens) * width, generator=generator)
    table = torch.full((len(seq_lens), width), 1 << 20, dtype=torch.int32)
    k, v = (torch.full((len(order), KV_HEADS, BLOCK_SIZE, DIM), torch.nan) for _ in range(2))
    for row, length in enumerate(seq_lens):
        blocks = order[row * width :][: -(-length // BLOCK_SIZE)]
        table[row, : len(blocks)] = blocks
        for token in range(length):
            at = int(blocks[token // BLOCK_SIZE]), slice(None), token % BLOCK_SIZE
            k[at], v[at] = torch.randn(2, KV_HEADS, DIM, generator=generator)
    starts = np.cumsum([0, *query_lens], dtype=np.int32)
    plan = AttendPlan(
        query_start=starts,
        seq_lens_bound=np.array(seq_lens, dtype=np.int32),
        query_start_device=torch.from_numpy(starts),
        seq_lens=torch.tensor(seq_lens, dtype=torch.int32),
        block_table=table,
        block_size=BLOCK_SIZE,
        layout="hnd",
    )
    return torch.randn(int(starts[-1]), 2 * KV_HEADS, DIM, generator=generator), KVPages(k, v), plan


@pytest.mark.parametrize("window", [None, 3, 8])
@pytest.mark.parametrize("shared", [1, 150, 1 << 21])
def test_decoding_sequences_share_calls(monkeypatch: pytest.MonkeyPatch, shared: int, window: int | None) -> None:
    """Alone, a few at a time or all at once: padding, masks and NaN behind the ends change nothing."""
    monkeypatch.setattr(pieces, "SHARED_ELEMENTS", shared)
    q, pages, plan = batch([1, 1, 1, 5, 1, 1], [9, 1, 30, 14, 4, 13])
    out, lse = attend(q, pages, plan, scale=0.4, window=window, return_lse=True)
    expected, expected_lse = reference(q, pages, plan, scale=0.4, window=window, return_lse=True)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(lse, expected_lse)


def test_pages_may_have_another_dtype() -> None:
    q, pages, plan = batch([1, 3, 1], [9, 8, 11])
    narrow = KVPages(pages.k.bfloat16(), pages.v.bfloat16())
    out, _ = attend(q, narrow, plan, scale=0.4)
    expected, _ = reference(q, narrow, plan, scale=0.4)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, expected)


def test_the_plan_is_cut_once_for_all_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    cuts: list[Any] = []
    monkeypatch.setattr(pieces.Cutter, "cut", lambda self, cut=pieces.Cutter.cut: cuts.append(1) or cut(self))
    q, pages, plan = batch([1, 3], [9, 8])
    for _ in range(4):
        attend(q, pages, plan, scale=0.4)
    assert len(cuts) == 1
    attend(q, pages, plan, scale=0.4, window=3)
    assert len(cuts) == 2


def test_a_chunk_behind_a_long_prefix_needs_no_mask() -> None:
    q, pages, plan = batch([6], [40])
    attend(q, pages, plan, scale=0.4)
    (found,) = plan.derived.values()
    assert [(piece.causal, piece.continued, piece.mask) for piece in found] == [
        (False, False, None),
        (True, True, None),
    ]


def test_rms_norm_rounds_as_the_reference() -> None:
    x, weight = torch.randn(9, 256).bfloat16(), torch.randn(256).bfloat16()
    assert torch.equal(rms_norm(x, weight, 1e-6), reference_rms_norm(x, weight, 1e-6))


@needs_bf16
@pytest.mark.parametrize("rows", [1, 3, 32, 200])
def test_packed_weights_need_no_original(rows: int) -> None:
    weight, x = torch.randn(96, 160).bfloat16(), torch.randn(rows, 160).bfloat16()
    bias = torch.randn(96).bfloat16()
    expected = x.double() @ weight.double().T + bias.double()
    packed = linear(weight, bias)
    assert isinstance(packed, OneDNNLinear)
    weight.zero_()
    torch.testing.assert_close(packed(x).double(), expected, atol=0.2, rtol=0.02)


def test_where_onednn_cannot_the_weight_stays_as_it_lies(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(weight: torch.Tensor, rows: int) -> torch.Tensor:
        raise RuntimeError("no such instruction set\nand a long trace")

    monkeypatch.setattr(linear_module, "_refusals", set())
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace(_reorder_linear_weight=fail))
    with caplog.at_level(logging.WARNING):
        layers = [linear(torch.randn(4, 3), None) for _ in range(3)]
    assert all(isinstance(layer, PlainLinear) for layer in layers)
    assert [record.getMessage() for record in caplog.records] == [
        "Linear layers run on unpacked weights, which is slower: no such instruction set"
    ]


@pytest.mark.parametrize(
    "features, reasons",
    [
        ({"avx512f", "avx512bw", "avx512vl"}, ()),
        ({"avx2"}, ("the CPU lacks avx512bw, avx512vl",)),
    ],
)
def test_a_cpu_without_avx512_is_refused(features: set[str], reasons: tuple[str, ...]) -> None:
    query = KernelQuery(
        operator="linear", device=DeviceFacts(features=frozenset(features)), dtype="bfloat16", kv_dtype="bfloat16"
    )
    assert refuse_onednn(query) == reasons
