"""Changes to few tokens of few rows: allowed ids, bad words, logit bias, stop tokens that come too early, grammars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...kernels.transfer import to_device
from ...spi.execution import LogitsBatch
from ..step import NewRequest

Int64 = NDArray[np.int64]


class RowMemory(Protocol):
    """What one part of sampling remembers of each row."""

    def join(self, row: int, request: NewRequest) -> None: ...

    def leave(self, row: int) -> None: ...


class Adjuster(RowMemory, Protocol):
    """One change to the scores."""

    def concerns(self, batch: LogitsBatch) -> bool:
        """Whether any row of the batch wants it; known on the host."""
        ...

    def apply(self, scores: Tensor, batch: LogitsBatch) -> Tensor:
        """``scores`` [S, V] float32, changed in place or replaced."""
        ...


class TokenLists:
    """A list of token ids for some rows, and all those of a step as one index."""

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        self._vocab_size = vocab_size
        self._device = device
        self._ids: dict[int, Int64] = {}
        self._kept: tuple[bytes, Tensor] | None = None

    def put(self, row: int, ids: Sequence[int]) -> None:
        """Ids outside the vocabulary are left out: they have no logit."""
        self._kept = None
        found = np.asarray(ids, np.int64)
        self._ids[row] = found[(found >= 0) & (found < self._vocab_size)]

    def drop(self, row: int) -> None:
        self._ids.pop(row, None)

    def positions(self, rows: Sequence[int]) -> list[int]:
        """Where in ``rows`` those with a list stand."""
        return [position for position, row in enumerate(rows) if row in self._ids] if self._ids else []

    def index(self, rows: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Into the flattened scores of ``rows``: every id of the rows at ``positions``. Kept until something moves."""
        key = np.asarray([(position, rows[position]) for position in positions], np.int64).tobytes()
        if self._kept is None or self._kept[0] != key:
            lists = [self._ids[rows[position]] + position * self._vocab_size for position in positions]
            self._kept = key, to_device(np.concatenate(lists), self._device)
        return self._kept[1]


class AllowedTokens:
    """Everything but ``allowed_token_ids`` is banned."""

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        self._lists = TokenLists(vocab_size, device)

    def join(self, row: int, request: NewRequest) -> None:
        if request.sampling.allowed_token_ids is not None:
            self._lists.put(row, sorted(set(request.sampling.allowed_token_ids)))

    def leave(self, row: int) -> None:
        self._lists.drop(row)

    def concerns(self, batch: LogitsBatch) -> bool:
        return bool(self._lists.positions(batch.rows))

    def apply(self, scores: Tensor, batch: LogitsBatch) -> Tensor:
        positions = self._lists.positions(batch.rows)
        index = self._lists.index(batch.rows, positions)
        allowed = scores.view(-1)[index]
        scores[to_device(np.asarray(positions, np.int64), scores.device)] = -torch.inf
        scores.view(-1)[index] = allowed
        return scores


class LogitBias:
    """``logit_bias`` is added."""

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        self._vocab_size = vocab_size
        self._lists = TokenLists(vocab_size, device)
        self._values: dict[int, NDArray[np.float32]] = {}

    def join(self, row: int, request: NewRequest) -> None:
        bias = {id: value for id, value in (request.sampling.logit_bias or {}).items() if 0 <= id < self._vocab_size}
        if bias:
            self._lists.put(row, list(bias))
            self._values[row] = np.array(list(bias.values()), np.float32)

    def leave(self, row: int) -> None:
        self._lists.drop(row)
        self._values.pop(row, None)

    def concerns(self, batch: LogitsBatch) -> bool:
        return bool(self._lists.positions(batch.rows))

    def apply(self, scores: Tensor, batch: LogitsBatch) -> Tensor:
        positions = self._lists.positions(batch.rows)
        values = np.concatenate([self._values[batch.rows[position]] for position in positions])
        index = self._lists.index(batch.rows, positions)
        scores.view(-1)[index] += to_device(values, scores.device)
        return scores


class MinTokens:
    """Stop tokens are banned until ``min_tokens`` tokens are out."""

    def __init__(self, vocab_size: int, device: torch.device) -> None:
        self._lists = TokenLists(vocab_size, device)
        self._until: dict[int, int] = {}

    def join(self, row: int, request: NewRequest) -> None:
        if request.sampling.min_tokens and request.stop_token_ids:
            self._lists.put(row, request.stop_token_ids)
            self._until[row] = request.num_prompt_tokens + request.sampling.min_tokens

    def leave(self, row: int) -> None:
        self._lists.drop(row)
        self._until.pop(row, None)

    def concerns(self, batch: LogitsBatch) -> bool:
        return bool(self._early(batch))

    def apply(self, scores: Tensor, batch: LogitsBatch) -> Tensor:
        scores.view(-1)[self._lists.index(batch.rows, self._early(batch))] = -torch.inf
        return scores

    def _early(self, batch: LogitsBatch) -> list[int]:
        positions = self._lists.positions(batch.rows)
        return [at for at in positions if batch.num_tokens[at] < self._until[batch.rows[at]]]


def apply_mask(scores: Tensor, mask: Tensor) -> Tensor:
    """Bans, in ``scores`` [S, V], the tokens whose bits in ``mask`` [S, ceil(V / 32)] int32 are clear."""
    bits = torch.arange(32, dtype=torch.int32, device=scores.device)
    words = mask.to(scores.device, non_blocking=True)
    banned = ((words[:, :, None] >> bits) & 1).flatten(1)[:, : scores.shape[1]] == 0
    return scores.masked_fill_(banned, -torch.inf)
