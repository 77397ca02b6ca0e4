"""Thinking that has spent its budget is closed: closing tokens take the place of those that were chosen.

What a row has written is known on the device only, so it is read there, and only in the few steps in which its budget
can run out at all; nothing is remembered from step to step. A closing token is set when the choice has been made, so
that nothing else which shapes a choice has a say in it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...kernels.transfer import to_device
from ...spi.execution import LogitsBatch
from ..messages import ThinkingBudget
from ..step import NewRequest

Ids = tuple[int, ...]


@dataclass(frozen=True)
class _Marks:
    """The token ids of a ``ThinkingBudget``; those of most requests are equal."""

    openings: tuple[Ids, ...]
    closings: tuple[Ids, ...]
    closing: Ids

    @classmethod
    def of(cls, budget: ThinkingBudget) -> _Marks:
        return cls(tuple(map(tuple, budget.openings)), tuple(map(tuple, budget.closings)), tuple(budget.closing))


@dataclass(frozen=True)
class _Row:
    """A row's output begins at position ``begin``; ``due`` are the positions that closing tokens may get."""

    begin: int
    tokens: int
    opened: bool
    due: range
    marks: _Marks

    @classmethod
    def of(cls, budget: ThinkingBudget, begin: int) -> _Row:
        lengths = [0] if budget.opened else [len(ids) for ids in budget.openings]
        earliest = begin + min(lengths, default=0) + budget.tokens
        end = begin + max(lengths, default=0) + budget.tokens + len(budget.closing)
        return cls(begin, budget.tokens, budget.opened, range(earliest, end), _Marks.of(budget))


class ThinkingBudgets:
    """``thinking_budget`` of every row that has one."""

    def __init__(self) -> None:
        self._rows: dict[int, _Row] = {}

    def join(self, row: int, request: NewRequest) -> None:
        if request.thinking_budget is not None:
            self._rows[row] = _Row.of(request.thinking_budget, request.num_prompt_tokens)

    def leave(self, row: int) -> None:
        self._rows.pop(row, None)

    def apply(self, tokens: Tensor, batch: LogitsBatch) -> Tensor:
        """The ``tokens`` [S] that were chosen, with closing tokens where thinking has to end."""
        due = defaultdict[_Marks, list[int]](list)
        for position, row in enumerate(batch.rows) if self._rows else ():
            found = self._rows.get(row)
            if found is not None and batch.num_tokens[position] in found.due:
                due[found.marks].append(position)
        for marks, positions in due.items():
            tokens = self._close(tokens, batch, marks, positions)
        return tokens

    def _close(self, tokens: Tensor, batch: LogitsBatch, marks: _Marks, positions: list[int]) -> Tensor:
        rows = [self._rows[batch.rows[position]] for position in positions]
        lengths = [batch.num_tokens[position] - row.begin for position, row in zip(positions, rows, strict=True)]
        longest = max(map(len, (*marks.openings, *marks.closings)))
        output = _Outputs(batch, positions, [row.begin for row in rows], lengths, longest)
        start = torch.where(output.column([row.opened for row in rows]) > 0, 0, output.behind(marks.openings))
        spent = output.lengths - start >= output.column([row.tokens for row in rows])
        closes = (start >= 0) & spent & ~output.has(marks.closings, start)
        where = output.column(positions)
        return tokens.index_copy(0, where, torch.where(closes, output.next_of(marks.closing), tokens[where]))


class _Outputs:
    """What R rows have written, on the device: ``ids`` [R, W], -1 behind each row's end, and ``lengths`` [R]."""

    def __init__(
        self, batch: LogitsBatch, positions: Sequence[int], begins: Sequence[int], lengths: Sequence[int], room: int
    ) -> None:
        """At least ``room`` columns are behind every end, so that whatever is looked for fits in."""
        self._device = batch.token_ids.device
        self.lengths = self.column(lengths)
        self._places = torch.arange(max(lengths) + room, device=self._device)
        rows = self.column([batch.rows[position] for position in positions])[:, None]
        columns = (self.column(begins)[:, None] + self._places).clamp(max=batch.token_ids.shape[1] - 1)
        self._ids = batch.token_ids[rows, columns].masked_fill_(self._places >= self.lengths[:, None], -1)

    def column(self, values: Sequence[int]) -> Tensor:
        """``values`` [R] int64 on the device."""
        return to_device(np.array(values, np.int64), self._device)

    def behind(self, openings: Sequence[Ids]) -> Tensor:
        """[R] where each row goes on behind the opening that it begins with, -1 where it begins with none."""
        start = torch.full_like(self.lengths, -1)
        for ids in openings:
            start = torch.where(self._where(ids)[:, 0], len(ids), start)
        return start

    def has(self, closings: Sequence[Ids], start: Tensor) -> Tensor:
        """[R] whether any of ``closings`` stands in a row, from ``start`` [R] on."""
        found = torch.zeros_like(self.lengths, dtype=torch.bool)
        for ids in closings:
            hits = self._where(ids)
            found |= (hits & (self._places[: hits.shape[1]] >= start[:, None])).any(1)
        return found

    def next_of(self, closing: Ids) -> Tensor:
        """[R] the token of ``closing`` that comes next, where a row may end with those before it."""
        token = torch.full_like(self.lengths, closing[0])
        for count in range(1, len(closing)):
            end = (self.lengths - count)[:, None]
            written = self._where(closing[:count]).gather(1, end.clamp(min=0)) & (end >= 0)
            token = torch.where(written[:, 0], closing[count], token)
        return token

    def _where(self, ids: Ids) -> Tensor:
        """[R, W - len(ids) + 1] at which places ``ids`` stand."""
        width = self._ids.shape[1] - len(ids) + 1
        found = self._ids[:, :width] == ids[0]
        for place, id in enumerate(ids[1:], 1):
            found &= self._ids[:, place : place + width] == id
        return found
