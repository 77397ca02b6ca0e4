"""Sampling parameters by row, so that a step's are one gather each."""

from __future__ import annotations

import numpy as np

from ..step import NewRequest

#: A temperature below this is greedy: dividing logits by it would overflow and says nothing else anyway.
_COLDEST = 1e-6


class SamplingColumns:
    """As in ``SamplingParams``: ``temperature`` 0 is greedy, ``top_k`` 0 off; ``logprobs`` -1 means none.

    ``drawing`` are the rows that are not greedy, ``scored`` those with logprobs: mostly there are none.
    """

    def __init__(self, rows: int, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self.temperature = np.zeros(rows, np.float32)
        self.top_p = np.ones(rows, np.float64)
        self.min_p = np.zeros(rows, np.float64)
        self.top_k = np.zeros(rows, np.int64)
        self.seed = np.zeros(rows, np.uint64)
        self.logprobs = np.full(rows, -1, np.int64)
        self.drawing: set[int] = set()
        self.scored: set[int] = set()

    def write(self, row: int, request: NewRequest) -> None:
        sampling = request.sampling
        self.temperature[row] = sampling.temperature if sampling.temperature >= _COLDEST else 0
        self.top_p[row] = sampling.top_p
        self.min_p[row] = sampling.min_p
        self.top_k[row] = sampling.top_k if 0 < sampling.top_k < self._vocab_size else 0
        self.seed[row] = request.seed
        self.logprobs[row] = -1 if sampling.logprobs is None else capped(sampling.logprobs, self._vocab_size)
        if self.temperature[row] > 0:
            self.drawing.add(row)
        if self.logprobs[row] >= 0:
            self.scored.add(row)

    def leave(self, row: int) -> None:
        self.drawing.discard(row)
        self.scored.discard(row)


def capped(count: int, vocab_size: int) -> int:
    """How many log-probabilities are meant: -1 is the whole vocabulary, and there are no more."""
    return vocab_size if count == -1 else min(count, vocab_size)
