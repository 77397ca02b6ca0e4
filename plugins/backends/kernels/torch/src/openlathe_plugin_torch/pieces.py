"""One step's attention cut into pieces that torch can do in one call each; made once a step, used in every layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from openlathe.kernels.attend import AttendPlan

#: Gathered elements of keys and values together up to which decoding sequences share one call: a few MiB, so that
#: what one operation gathers is still in the cache when the next one reads it.
SHARED_ELEMENTS = 1 << 22


@dataclass(slots=True, kw_only=True)
class Piece:
    """Some queries against some of their keys: one query each of several sequences, or several of one sequence.

    Attributes:
        queries: rows of the step's queries.
        sequences: number of sequences; their gathered keys are padded to one length.
        rows: [sequences * kv_heads * blocks] rows of the pages seen as [pages * kv_heads, block_size * dim].
        keys: which of the gathered tokens of a sequence count.
        causal: as many keys as queries, each query sees those up to its own.
        mask: added to the scores, [sequences, 1, 1, keys] or [queries, keys].
        blank: rows of the gathered tokens, seen as [sequences * kv_heads * tokens, dim], that hold no key of ours.
        continued: more keys of the queries of the piece before this one.
    """

    queries: slice | Tensor
    sequences: int
    rows: Tensor
    keys: slice
    causal: bool = False
    mask: Tensor | None = None
    blank: Tensor | None = None
    continued: bool = False


@dataclass(slots=True, frozen=True)
class _Span:
    """Request ``request``: its ``count`` queries from row ``start`` on, against keys ``first`` to ``end``."""

    request: int
    start: int
    count: int
    first: int
    end: int

    @property
    def queries(self) -> slice:
        return slice(self.start, self.start + self.count)


class Cutter:
    """Cuts a plan into pieces for layers of ``kv_heads`` heads, a window or none, and masks of ``dtype``."""

    def __init__(self, plan: AttendPlan, kv_heads: int, head_elements: int, window: int | None, dtype: torch.dtype):
        self.plan = plan
        self.heads = np.arange(kv_heads)[None, :, None]
        self.token_elements = kv_heads * head_elements
        self.window = window
        self.dtype = dtype
        self.table = plan.block_table.numpy()

    def cut(self) -> list[Piece]:
        """The pieces in an order in which a continuing one follows what it continues."""
        decoding, pieces = [], []
        for span in self._spans():
            if span.count == 1:
                decoding.append(span)
            else:
                pieces += self._prefill(span)
        return pieces + [self._decode(group) for group in self._groups(decoding)]

    def _spans(self) -> Iterator[_Span]:
        starts = self.plan.query_start.tolist()
        for request, end in enumerate(self.plan.seq_lens.tolist()):
            start, count = starts[request], starts[request + 1] - starts[request]
            oldest = end - (count if self.plan.causal else 1)
            first = max(0, oldest - self.window + 1) if self.window is not None else 0
            if count and end > first:
                yield _Span(request, start, count, first, end)

    def _groups(self, spans: list[_Span]) -> Iterator[list[_Span]]:
        """Sequences of similar length together, as many as gather ``SHARED_ELEMENTS``."""
        group: list[_Span] = []
        for span in sorted(spans, key=lambda span: span.end - span.first):
            longest = span.end - span.first + self.plan.block_size
            if group and (len(group) + 1) * longest * self.token_elements > SHARED_ELEMENTS:
                yield group
                group = []
            group.append(span)
        if group:
            yield group

    def _decode(self, group: list[_Span]) -> Piece:
        if len(group) == 1:
            return self._whole(group[0])
        blocks = [self._blocks(span) for span in group]
        width = max(map(len, blocks))
        padded = np.stack([np.pad(row, (0, width - len(row)), mode="edge") for row in blocks])
        first = np.array([span.first % self.plan.block_size for span in group])[:, None]
        length = np.array([span.end - span.first for span in group])[:, None]
        token = np.arange(width * self.plan.block_size)
        outside = (token < first) | (token >= first + length)
        return Piece(
            queries=torch.tensor([span.start for span in group]),
            sequences=len(group),
            rows=self._rows(padded),
            keys=slice(None),
            mask=self._mask(outside)[:, None, None, :],
            blank=torch.from_numpy(np.flatnonzero(np.repeat(outside, self.heads.size, axis=0))),
        )

    def _prefill(self, span: _Span) -> list[Piece]:
        """Without a window the keys from before the step, which every query sees, and then the step's own."""
        if not self.plan.causal:
            return [self._whole(span)]
        if self.window is not None:
            keys = np.arange(span.first, span.end)
            last = np.arange(span.end - span.count, span.end)[:, None]
            return [self._whole(span, mask=self._mask((keys > last) | (keys <= last - self.window)))]
        own = _Span(span.request, span.start, span.count, span.end - span.count, span.end)
        if own.first == 0:
            return [self._whole(own, causal=True)]
        before = _Span(span.request, span.start, span.count, 0, own.first)
        return [self._whole(before), self._whole(own, causal=True, continued=True)]

    def _whole(
        self, span: _Span, *, causal: bool = False, continued: bool = False, mask: Tensor | None = None
    ) -> Piece:
        offset = span.first % self.plan.block_size
        return Piece(
            queries=span.queries,
            sequences=1,
            rows=self._rows(self._blocks(span)[None]),
            keys=slice(offset, offset + span.end - span.first),
            causal=causal,
            continued=continued,
            mask=mask,
        )

    def _blocks(self, span: _Span) -> np.ndarray:
        size = self.plan.block_size
        return self.table[span.request, span.first // size : -(-span.end // size)]

    def _rows(self, blocks: np.ndarray) -> Tensor:
        """``blocks`` [sequences, B] -> rows, heads before blocks, so that one head's tokens come to lie together."""
        rows = blocks[:, None, :].astype(np.int64) * self.heads.size + self.heads
        return torch.from_numpy(rows.reshape(-1))

    def _mask(self, hidden: np.ndarray) -> Tensor:
        return torch.zeros(hidden.shape, dtype=self.dtype).masked_fill_(torch.from_numpy(hidden), -torch.inf)
