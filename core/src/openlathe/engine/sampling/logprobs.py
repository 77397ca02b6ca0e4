"""Log-probabilities: of sampled tokens and of prompts, as the model has them, before anything changes the logits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...kernels.blocks import largest
from ...kernels.transfer import HostCopy, select
from ..messages import TokenLogprobs
from .columns import capped

#: Prompt positions whose logits are held at once.
_SLICE = 64


class PendingLogprobs:
    """Log-probabilities of N tokens with the same number of alternatives each, on their way to the host."""

    def __init__(self, logits: Tensor, tokens: Tensor, count: int) -> None:
        """``logits`` [N, V], ``tokens`` [N] int64 on the same device; the ``count`` best are given beside the token."""
        logprobs = logits.log_softmax(-1, dtype=torch.float32)
        own = logprobs.gather(1, tokens[:, None])
        # Counted in floats, which are summed several times as fast as truth values, and exactly up to 2**24.
        ranks = torch.gt(logprobs, own, out=torch.empty_like(logprobs)).sum(-1).long() + 1
        values, ids = largest(logprobs, count)
        self._copy = HostCopy([torch.cat([tokens[:, None], ids], 1), torch.cat([own, values], 1), ranks])

    def collect(self) -> list[TokenLogprobs]:
        columns = [tensor.tolist() for tensor in self._copy.wait()]
        return [TokenLogprobs(ids, logprobs, rank) for ids, logprobs, rank in zip(*columns, strict=True)]


class PromptLogprobs:
    """Log-probabilities of a prompt's positions, in slices."""

    def __init__(self, slices: list[PendingLogprobs]) -> None:
        self._slices = slices

    def collect(self) -> list[TokenLogprobs]:
        return [entry for part in self._slices for entry in part.collect()]


class PendingRows:
    """Log-probabilities of those of S rows that asked for some."""

    def __init__(self, logits: Tensor, tokens: Tensor, counts: NDArray[np.int64]) -> None:
        """``logits`` [S, V], ``tokens`` [S]; ``counts`` [S], -1 where none are wanted.

        Rows are taken by the number they ask for: which of two equal tokens comes first may depend on it, and no
        row's answer is to depend on its neighbours.
        """
        self._parts: list[tuple[list[int], PendingLogprobs]] = []
        for count in np.unique(counts[counts >= 0]):
            rows = np.nonzero(counts == count)[0]
            part = PendingLogprobs(select(logits, rows), select(tokens, rows), int(count))
            self._parts.append((rows.tolist(), part))

    def collect(self) -> dict[int, TokenLogprobs]:
        return {row: entry for rows, part in self._parts for row, entry in zip(rows, part.collect(), strict=True)}


def prompt_logprobs(
    hidden: Tensor, targets: Tensor, count: int, compute_logits: Callable[[Tensor], Tensor]
) -> PromptLogprobs:
    """Log-probabilities of ``targets`` [T] int64, each the token behind one of the ``hidden`` [T, H] states.

    ``count`` alternatives each, -1 for the whole vocabulary. Logits are made for few positions at a time.
    """
    slices = []
    for states, tokens in zip(hidden.split(_SLICE), targets.split(_SLICE), strict=True):
        logits = compute_logits(states)
        slices.append(PendingLogprobs(logits, tokens, capped(count, logits.shape[-1])))
    return PromptLogprobs(slices)
