"""Words that must not be written: the last token of each is banned where the text ends with all tokens before it.

What the text ends with is known on the device only, so it is compared there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...kernels.transfer import to_device
from ...spi.execution import LogitsBatch
from ..step import NewRequest

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class _Words:
    """W words of one row. ``last`` [W] ids, ``beginning`` [W] how many tokens come before it.

    All beginnings behind each other, [N]: ``ids``, the ``word`` each belongs to, its ``distance`` from the text's end.
    """

    last: Int64
    beginning: Int64
    ids: Int64
    word: Int64
    distance: Int64

    @classmethod
    def of(cls, words: list[list[int]]) -> _Words:
        beginning = np.array([len(word) - 1 for word in words])
        return cls(
            last=np.array([word[-1] for word in words]),
            beginning=beginning,
            ids=np.array([token for word in words for token in word[:-1]], np.int64),
            word=np.repeat(np.arange(len(words)), beginning),
            distance=np.array([length - at for length in beginning for at in range(length)], np.int64),
        )


class BadWords:
    """``bad_words_token_ids`` of every row that has some."""

    def __init__(self, vocab_size: int) -> None:
        self._vocab_size = vocab_size
        self._words: dict[int, _Words] = {}

    def join(self, row: int, request: NewRequest) -> None:
        # A word with an id outside the vocabulary is never written.
        words = [word for word in request.sampling.bad_words_token_ids if word and self._can_be_written(word)]
        if words:
            self._words[row] = _Words.of(words)

    def leave(self, row: int) -> None:
        self._words.pop(row, None)

    def concerns(self, batch: LogitsBatch) -> bool:
        return not self._words.keys().isdisjoint(batch.rows)

    def apply(self, scores: Tensor, batch: LogitsBatch) -> Tensor:
        found = [(at, self._words[row]) for at, row in enumerate(batch.rows) if row in self._words]
        counts = np.array([len(words.last) for _, words in found])
        before = np.cumsum(counts) - counts
        ids = np.concatenate([words.ids for _, words in found])
        word = np.concatenate([words.word + start for start, (_, words) in zip(before, found, strict=True)])
        row = np.concatenate([np.full(len(words.ids), batch.rows[at]) for at, words in found])
        # A beginning longer than the text wraps around the row; such words are let off below.
        place = np.concatenate([batch.num_tokens[at] - words.distance for at, words in found])
        too_long = np.concatenate([words.beginning > batch.num_tokens[at] for at, words in found])
        last = np.concatenate([words.last + at * self._vocab_size for at, words in found])

        device = scores.device
        text = batch.token_ids[to_device(row, device), to_device(place.clip(min=0), device)]
        differs = (text != to_device(ids, device)).int()
        misses = to_device(too_long.astype(np.int32), device).index_add(0, to_device(word, device), differs)
        ban = torch.zeros(len(last), device=device).masked_fill_(misses == 0, -torch.inf)
        scores.view(-1).index_add_(0, to_device(last, device), ban)
        return scores

    def _can_be_written(self, word: list[int]) -> bool:
        return all(0 <= token < self._vocab_size for token in word)
