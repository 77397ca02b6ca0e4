"""What sampling remembers of every row, and one step of it.

Nothing here waits for the device: the next forward pass is ordered before this step's tokens reach the host.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...kernels import Operators
from ...kernels.draw import Filters
from ...kernels.transfer import HostCopy, select, to_device
from ...spi.execution import LogitsBatch, LogitsProcessor
from ..messages import TokenLogprobs
from ..step import NewRequest
from .bad_words import BadWords
from .columns import SamplingColumns
from .logits import Adjuster, AllowedTokens, LogitBias, MinTokens, RowMemory, apply_mask
from .logprobs import PendingRows
from .penalties import Penalties
from .processors import Processors
from .thinking import ThinkingBudgets
from .uniform import uniform

Int64 = NDArray[np.int64]


class Sampled:
    """What a step chose: ``tokens`` [S] int64 on the device, at once; the rest when :meth:`collect` is asked."""

    def __init__(self, tokens: Tensor, logprobs: PendingRows | None) -> None:
        self.tokens = tokens
        self._logprobs = logprobs
        self._copy = HostCopy([tokens])

    def collect(self) -> tuple[list[int], dict[int, TokenLogprobs]]:
        """The tokens, and log-probabilities by index into the step's rows where they were asked for."""
        (tokens,) = self._copy.wait()
        return tokens.tolist(), {} if self._logprobs is None else self._logprobs.collect()


class SamplingState:
    """Rows are those of the persistent batch: a request keeps its row from joining to leaving.

    ``processors`` are logits processors of plugins, each with whether it changes which token is the best; of
    ``operators``, ``greedy`` and ``draw`` choose.
    """

    def __init__(
        self,
        max_num_seqs: int,
        vocab_size: int,
        device: torch.device,
        processors: Sequence[tuple[LogitsProcessor, bool]] = (),
        operators: Operators | None = None,
    ) -> None:
        operators = operators or Operators()
        self._greedy, self._draw_tokens = operators.greedy, operators.draw
        self._columns = SamplingColumns(max_num_seqs, vocab_size)
        self._penalties = Penalties(max_num_seqs, vocab_size, device)
        #: In the order in which they are applied.
        self._adjusters: list[Adjuster] = [
            AllowedTokens(vocab_size, device),
            BadWords(vocab_size),
            Processors([processor for processor, changes_argmax in processors if changes_argmax]),
            self._penalties,
            LogitBias(vocab_size, device),
            MinTokens(vocab_size, device),
        ]
        #: Applied behind the temperature, where tokens are drawn.
        self._invariant = Processors([processor for processor, changes_argmax in processors if not changes_argmax])
        self._thinking = ThinkingBudgets()
        self._memories: list[RowMemory] = [*self._adjusters, self._invariant, self._thinking]

    def join(self, row: int, request: NewRequest) -> None:
        """``request`` has ``row`` from now on; its tokens behind the prompt were generated before a preemption."""
        self._columns.write(row, request)
        for memory in self._memories:
            memory.join(row, request)

    def leave(self, row: int) -> None:
        self._columns.leave(row)
        for memory in self._memories:
            memory.leave(row)

    def sample(
        self, logits: Tensor, rows: Int64, num_tokens: Int64, token_ids: Tensor, mask: Tensor | None = None
    ) -> Sampled:
        """Picks a token for each of ``rows`` [S] from ``logits`` [S, V], any float dtype, which are left as they are.

        Args:
            num_tokens: [S] how many tokens each has; the new one gets this position.
            token_ids: [max_num_seqs, max_model_len] int32 on the device, by row.
            mask: [S, ceil(V / 32)] int32 with a bit for each token that may be taken.
        """
        batch = LogitsBatch(rows=rows.tolist(), num_tokens=num_tokens.tolist(), token_ids=token_ids)
        tokens = self._choose(self._adjusted(logits, batch, mask), rows, num_tokens, token_ids)
        tokens = self._thinking.apply(tokens, batch)
        self._penalties.count(batch, tokens)
        return Sampled(
            tokens, PendingRows(logits, tokens, self._columns.logprobs[rows]) if self._columns.scored else None
        )

    def _adjusted(self, logits: Tensor, batch: LogitsBatch, mask: Tensor | None) -> Tensor:
        """The logits themselves where nothing is to be changed, else a float32 copy."""
        concerned = [adjuster for adjuster in self._adjusters if adjuster.concerns(batch)]
        if not concerned and mask is None:
            return logits
        scores = logits.to(torch.float32, copy=True)
        for adjuster in concerned:
            scores = adjuster.apply(scores, batch)
        return scores if mask is None else apply_mask(scores, mask)

    def _choose(self, scores: Tensor, rows: Int64, num_tokens: Int64, token_ids: Tensor) -> Tensor:
        if not self._columns.drawing:
            return self._greedy(scores)
        temperature = self._columns.temperature[rows]
        drawing = np.nonzero(temperature > 0)[0]
        if not len(drawing):
            return self._greedy(scores)
        drawn = self._draw(select(scores, drawing), rows[drawing], num_tokens[drawing], token_ids)
        if len(drawing) == len(rows):
            return drawn
        return self._greedy(scores).index_copy_(0, to_device(drawing, scores.device), drawn)

    def _draw(self, scores: Tensor, rows: Int64, num_tokens: Int64, token_ids: Tensor) -> Tensor:
        columns = self._columns
        temperature = columns.temperature[rows]
        batch = LogitsBatch(rows=rows.tolist(), num_tokens=num_tokens.tolist(), token_ids=token_ids)
        if self._invariant.concerns(batch):
            scores = self._invariant.apply(scores.float() / to_device(temperature[:, None], scores.device), batch)
            temperature = np.ones_like(temperature)
        filters = Filters(top_k=columns.top_k[rows], top_p=columns.top_p[rows], min_p=columns.min_p[rows])
        return self._draw_tokens(scores, temperature, filters, uniform(columns.seed[rows], num_tokens))
