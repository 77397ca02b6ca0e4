"""Attention of a step's queries over the pages of the KV cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..spi import AttentionBatch, KVPages
from .pages import LAYOUTS, knows, rows_of, value_size


@dataclass(slots=True, kw_only=True)
class AttendPlan:
    """Which queries see which pages; the same for all layers of one KV group in one step.

    R requests, T tokens, as in :class:`openlathe.spi.AttentionBatch`: on the host, query lengths are exact and
    sequence lengths upper bounds; on the device both are exact.

    Attributes:
        query_start: [R + 1] int32 on the host: request r's queries are rows ``query_start[r]:query_start[r + 1]``.
        seq_lens_bound: [R] int32 on the host.
        query_start_device: [R + 1] int32.
        seq_lens: [R] int32: keys request r has in the cache, those of its own queries included.
        block_table: [R, B] int32: page of each block; entries past a sequence's end and left of every query's window
            are undefined.
        block_size: tokens in a page.
        layout: name of the arrangement of the pages, one of :mod:`openlathe.kernels.pages`.
        causal: query i of n sees the first ``seq_len - n + i + 1`` keys; otherwise every query sees all of them.
        derived: what a provider makes of the plan in the first layer and finds again in the others.
    """

    query_start: np.ndarray
    seq_lens_bound: np.ndarray
    query_start_device: Tensor
    seq_lens: Tensor
    block_table: Tensor
    block_size: int
    layout: str
    causal: bool = True
    derived: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: AttentionBatch, layout: str, *, causal: bool = True) -> AttendPlan:
        """The plan of a whole step."""
        return cls(
            query_start=batch.query_start,
            seq_lens_bound=batch.seq_lens_bound,
            query_start_device=batch.query_start_device,
            seq_lens=batch.seq_lens,
            block_table=batch.block_table,
            block_size=batch.block_size,
            layout=layout,
            causal=causal,
        )

    @property
    def num_requests(self) -> int:
        return len(self.seq_lens_bound)


class AttendOperator(Protocol):
    def __call__(
        self,
        q: Tensor,
        pages: KVPages,
        plan: AttendPlan,
        *,
        scale: float,
        window: int | None = None,
        soft_cap: float | None = None,
        sinks: Tensor | None = None,
        return_lse: bool = False,
    ) -> tuple[Tensor, Tensor | None]: ...


@knows(*LAYOUTS)
def attend(
    q: Tensor,
    pages: KVPages,
    plan: AttendPlan,
    *,
    scale: float,
    window: int | None = None,
    soft_cap: float | None = None,
    sinks: Tensor | None = None,
    return_lse: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """softmax(scale * q k^T) v of each request -> (out [T, heads, Dv], lse [T, heads] float32 or None).

    Query head h reads key head ``h // (heads / kv_heads)``. ``window``: a query sees the last ``window`` keys, its own
    included. ``soft_cap``: scores become ``cap * tanh(score / cap)``. ``sinks`` [heads]: one more score a head, which
    takes its share of the softmax and brings no value. ``lse`` is the natural logarithm of the softmax's denominator,
    sink included; minus infinity, with zeros in ``out``, where a query sees no key. In float32, and free of
    synchronisation with the device.
    """
    out = q.new_zeros((*q.shape[:2], value_size(pages, plan.layout)))
    lse = q.new_full(q.shape[:2], -torch.inf, dtype=torch.float32)
    for request in range(plan.num_requests):
        rows = slice(int(plan.query_start[request]), int(plan.query_start[request + 1]))
        seen = _visible(plan, request, rows.stop - rows.start, window)
        keys, values = _gather(pages, plan, request, q.shape[1])
        scores = torch.einsum("qhd,khd->qhk", q[rows].to(keys.dtype), keys) * scale
        if soft_cap is not None:
            scores = soft_cap * torch.tanh(scores / soft_cap)
        scores = scores.masked_fill(~seen[:, None, :], -torch.inf)
        # A slot nobody has written may hold anything, and nothing times NaN is NaN.
        values = values.masked_fill(~seen.any(0)[:, None, None], 0.0)
        out[rows], lse[rows] = _softmax_times(scores, values, sinks, out.dtype)
    return out, lse if return_lse else None


def _visible(plan: AttendPlan, request: int, num_queries: int, window: int | None) -> Tensor:
    """[queries, keys] bool: which keys, counted up to the bound, each query sees."""
    device = plan.seq_lens.device
    length = plan.seq_lens[request]
    keys = torch.arange(int(plan.seq_lens_bound[request]), device=device)
    last = length - num_queries + torch.arange(num_queries, device=device)[:, None]
    if not plan.causal:
        last = (length - 1).expand(num_queries, 1)
    seen = keys <= last
    return seen if window is None else seen & (keys > last - window)


def _gather(pages: KVPages, plan: AttendPlan, request: int, num_heads: int) -> KVPages:
    """[keys, heads, D] of one request up to its bound, one copy of a key head for each query head it serves."""
    bound = int(plan.seq_lens_bound[request])
    blocks = plan.block_table[request, : -(-bound // plan.block_size)].clamp(0, pages.k.shape[0] - 1)
    tokens = (rows[:bound] for rows in rows_of(pages, blocks, plan.layout))
    return KVPages(*(rows.repeat_interleave(num_heads // rows.shape[1], dim=1) for rows in tokens))


def _softmax_times(scores: Tensor, values: Tensor, sinks: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """``scores`` [queries, heads, keys], ``values`` [keys, heads, D] -> (out, lse)."""
    lse = torch.logsumexp(scores, dim=-1)
    if sinks is not None:
        lse = torch.logaddexp(lse, sinks.to(lse.dtype))
    weights = torch.exp(scores - lse.clamp_min(torch.finfo(lse.dtype).min)[..., None])
    return torch.einsum("qhk,khd->qhd", weights, values).to(dtype), lse.to(torch.float32)
