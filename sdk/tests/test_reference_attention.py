"""The reference attention against torch's own, and by hand where torch has nothing alike."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from openlathe_sdk.reference.attention import attention


def _draw(queries: int, keys: int, heads: int = 4, kv_heads: int = 2, size: int = 8):
    generator = torch.Generator().manual_seed(0)
    shapes = ((queries, heads, size), (keys, kv_heads, size), (keys, kv_heads, size))
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


@pytest.mark.parametrize("queries, keys, causal", [(7, 7, True), (1, 9, True), (3, 9, False)])
def test_it_is_torchs_attention(queries: int, keys: int, causal: bool) -> None:
    q, k, v = _draw(queries, keys)
    out, _ = attention(q, k, v, scale=0.3, causal=causal)
    by_head = (x.transpose(0, 1) for x in (q, k, v))
    theirs = scaled_dot_product_attention(*by_head, scale=0.3, is_causal=causal and queries > 1, enable_gqa=True)
    torch.testing.assert_close(out, theirs.transpose(0, 1))


def test_a_window_is_attention_over_fewer_keys() -> None:
    q, k, v = _draw(1, 9)
    out, lse = attention(q, k, v, scale=1.0, window=4)
    fewer, its_lse = attention(q, k[-4:], v[-4:], scale=1.0)
    torch.testing.assert_close(out, fewer)
    torch.testing.assert_close(lse, its_lse)


def test_a_sink_is_a_key_without_value() -> None:
    """One key, one sink of the same score: half of the value."""
    q, k, v = torch.zeros(1, 1, 2), torch.zeros(1, 1, 2), torch.ones(1, 1, 2)
    out, lse = attention(q, k, v, scale=1.0, sinks=torch.zeros(1))
    assert out.tolist() == [[[0.5, 0.5]]]
    assert lse.item() == pytest.approx(math.log(2))


def test_a_soft_cap_bounds_scores() -> None:
    """Scores of 100 and 0 under a cap of 1 are 1 and 0."""
    q, k, v = torch.full((1, 1, 1), 10.0), torch.tensor([[[10.0]], [[0.0]]]), torch.tensor([[[1.0]], [[0.0]]])
    out, _ = attention(q, k, v, scale=1.0, soft_cap=1.0, causal=False)
    assert out.item() == pytest.approx(math.e / (math.e + 1))
