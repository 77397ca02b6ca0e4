"""Presence, frequency and repetition penalties.

What a row has written is counted in an array over the vocabulary, which a new token changes in one place: no step looks
at the history. Such arrays exist for rows with penalties alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...kernels.transfer import select, to_device
from ...spi.execution import LogitsBatch
from ..step import NewRequest

Int64 = NDArray[np.int64]


class VocabArrays:
    """A float32 array over the vocabulary for each row that asked for one, in slots that are used again."""

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        self._values = torch.empty(0, vocab_size, device=device)
        self._slots: dict[int, int] = {}
        self._free: list[int] = []

    def take(self, row: int, fill: float) -> Tensor:
        """The row's array [V], filled."""
        if not self._free:
            self._grow()
        slot = self._slots[row] = self._free.pop()
        return self._values[slot].fill_(fill)

    def give_back(self, row: int) -> None:
        if row in self._slots:
            self._free.append(self._slots.pop(row))

    def positions(self, rows: Sequence[int]) -> Int64:
        """Where in ``rows`` those with an array stand."""
        found = [position for position, row in enumerate(rows) if row in self._slots] if self._slots else []
        return np.array(found, np.int64)

    def slots(self, rows: Sequence[int], positions: Int64) -> Tensor:
        slots = np.array([self._slots[rows[position]] for position in positions], np.int64)
        return to_device(slots, self._values.device)

    @property
    def values(self) -> Tensor:
        """[slots, V]"""
        return self._values

    def _grow(self) -> None:
        held = len(self._values)
        more = torch.empty(max(held, 4), self._values.shape[1], device=self._values.device)
        self._values = torch.cat([self._values, more])
        self._free = list(range(len(self._values) - 1, held - 1, -1))


class Penalties:
    """``presence_penalty`` and ``frequency_penalty`` on generated tokens, ``repetition_penalty`` on the prompt too."""

    def __init__(self, max_num_seqs: int, vocab_size: int, device: torch.device) -> None:
        self._presence = np.zeros(max_num_seqs, np.float32)
        self._frequency = np.zeros(max_num_seqs, np.float32)
        self._repetition = np.ones(max_num_seqs, np.float32)
        #: How often each token was generated.
        self._counts = VocabArrays(vocab_size, device)
        #: The repetition penalty at tokens that were seen, 1 at the others.
        self._factors = VocabArrays(vocab_size, device)

    def join(self, row: int, request: NewRequest) -> None:
        sampling = request.sampling
        self._presence[row] = sampling.presence_penalty
        self._frequency[row] = sampling.frequency_penalty
        self._repetition[row] = sampling.repetition_penalty
        if sampling.presence_penalty or sampling.frequency_penalty:
            counts = self._counts.take(row, 0)
            ids, times = np.unique(request.token_ids[request.num_prompt_tokens :], return_counts=True)
            counts[to_device(ids.astype(np.int64), counts.device)] = to_device(times.astype(np.float32), counts.device)
        if sampling.repetition_penalty != 1:
            factors = self._factors.take(row, 1)
            seen = to_device(np.unique(request.token_ids), factors.device)
            factors[seen] = sampling.repetition_penalty

    def leave(self, row: int) -> None:
        self._counts.give_back(row)
        self._factors.give_back(row)

    def concerns(self, batch: LogitsBatch) -> bool:
        return any(len(arrays.positions(batch.rows)) for arrays in (self._factors, self._counts))

    def apply(self, scores: Tensor, batch: LogitsBatch) -> Tensor:
        rows = np.asarray(batch.rows)
        if len(positions := self._factors.positions(batch.rows)):
            factors = self._factors.values[self._factors.slots(batch.rows, positions)]
            scores = self._scale(scores, factors, positions, rows[positions])
        if len(positions := self._counts.positions(batch.rows)):
            counts = self._counts.values[self._counts.slots(batch.rows, positions)]
            scores = self._subtract(scores, counts, positions, rows[positions])
        return scores

    def count(self, batch: LogitsBatch, tokens: Tensor) -> None:
        """Books the ``tokens`` [S] that were chosen."""
        if len(positions := self._counts.positions(batch.rows)):
            slots = self._counts.slots(batch.rows, positions)
            self._counts.values[slots, select(tokens, positions)] += 1
        if len(positions := self._factors.positions(batch.rows)):
            slots = self._factors.slots(batch.rows, positions)
            factors = to_device(self._repetition[np.asarray(batch.rows)[positions]], tokens.device)
            self._factors.values[slots, select(tokens, positions)] = factors

    def _scale(self, scores: Tensor, factors: Tensor, positions: Int64, rows: Int64) -> Tensor:
        """Divides positive scores of seen tokens by the penalty and multiplies negative ones by it.

        Of both results that is the smaller one where the penalty is above 1, else the larger one.
        """
        above = np.where(self._repetition[rows] > 1, 1, -1).astype(np.float32)
        sign = to_device(above[:, None], scores.device)
        own = select(scores, positions)
        divided = (own / factors).mul_(sign)
        multiplied = factors.mul_(own).mul_(sign)
        changed = torch.minimum(divided, multiplied, out=divided).mul_(sign)
        return scores.index_copy_(0, to_device(positions, scores.device), changed)

    def _subtract(self, scores: Tensor, counts: Tensor, positions: Int64, rows: Int64) -> Tensor:
        presence = to_device(self._presence[rows][:, None], scores.device)
        frequency = to_device(self._frequency[rows][:, None], scores.device)
        penalty = torch.gt(counts, 0, out=torch.empty_like(counts)).mul_(presence).add_(counts.mul_(frequency))
        return scores.index_add_(0, to_device(positions, scores.device), penalty, alpha=-1)
