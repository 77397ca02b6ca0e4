"""From logits to tokens: pure functions over the batch.

A draw depends on the request's seed and the token's position alone: one uniform number per row, made from both by a
counter-based hash, picks from the cumulative distribution in token order. So the same request gives the same tokens
whatever else runs, wherever its row lies and however often it was preempted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .messages import TokenLogprobs

#: Candidates looked at before the whole vocabulary is sorted for a top-p that they do not cover.
_TOP_P_SHORTLIST = 1024


@dataclass(frozen=True)
class SamplingBatch:
    """Parameters of the S rows that sample, as in ``SamplingParams``; ``temperature`` 0 is greedy.

    ``positions`` [S] is the position each new token will have. ``logprobs`` [S] is -1 where none are wanted.
    ``masked_ids`` holds (row, token ids) whose logits are set to minus infinity.
    """

    temperature: NDArray[np.float32]
    top_p: NDArray[np.float32]
    min_p: NDArray[np.float32]
    top_k: NDArray[np.int64]
    seed: NDArray[np.uint64]
    positions: NDArray[np.int64]
    logprobs: NDArray[np.int64]
    masked_ids: list[tuple[int, list[int]]]


def sample(logits: Tensor, batch: SamplingBatch) -> tuple[list[int], dict[int, TokenLogprobs]]:
    """Picks a token for each row of ``logits`` [S, V]; log-probabilities by row where they were asked for.

    Reported log-probabilities are those of the model, before temperature and filters.
    """
    rows = np.nonzero(batch.logprobs >= 0)[0]
    raw = logits[_index(rows, logits)].float().log_softmax(-1) if len(rows) else None
    if batch.masked_ids:
        logits = logits.clone()
        for row, token_ids in batch.masked_ids:
            logits[row, token_ids] = -torch.inf
    tokens = _choose(logits, batch)
    if raw is None:
        return tokens.tolist(), {}
    gathered = gather_logprobs(raw, tokens[_index(rows, tokens)], batch.logprobs[rows])
    return tokens.tolist(), dict(zip(rows.tolist(), gathered, strict=True))


def gather_logprobs(logprobs: Tensor, tokens: Tensor, counts: NDArray[np.int64]) -> list[TokenLogprobs]:
    """For rows of ``logprobs`` [S, V]: the chosen token's, its rank, and the ``counts`` best, best first."""
    chosen = logprobs.gather(1, tokens[:, None])
    ranks = (logprobs > chosen).sum(-1) + 1
    values, ids = logprobs.topk(int(counts.max()), dim=-1)
    columns = (tokens, chosen[:, 0], ranks, ids, values)
    rows = zip(counts.tolist(), *(column.tolist() for column in columns), strict=True)
    return [
        TokenLogprobs(token_ids=[token, *others[:count]], logprobs=[own, *best[:count]], rank=rank)
        for count, token, own, rank, others, best in rows
    ]


def uniform(seed: NDArray[np.uint64], position: NDArray[np.int64]) -> NDArray[np.float64]:
    """A number in [0, 1) for each (seed, position), by two rounds of the splitmix64 finaliser.

    Source: G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    """
    with np.errstate(over="ignore"):
        mixed = _splitmix64(_splitmix64(seed) + position.astype(np.uint64))
    return (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _choose(logits: Tensor, batch: SamplingBatch) -> Tensor:
    random_rows = np.nonzero(batch.temperature > 0)[0]
    if not len(random_rows):
        return _greedy(logits)
    every_row = len(random_rows) == len(batch.temperature)
    tokens = torch.empty(len(logits), dtype=torch.int64, device=logits.device) if every_row else _greedy(logits)
    index = _index(random_rows, logits)
    probs = _filtered_probs(logits[index].float(), batch, random_rows)
    draws = uniform(batch.seed[random_rows], batch.positions[random_rows])
    tokens[index] = _draw(probs, torch.from_numpy(draws).to(logits.device))
    return tokens


def _greedy(logits: Tensor) -> Tensor:
    """The first of the best tokens; in bfloat16 on a CPU ``max`` finds it four times as fast as ``argmax`` does."""
    return logits.max(-1).indices


def _filtered_probs(logits: Tensor, batch: SamplingBatch, rows: NDArray[np.int64]) -> Tensor:
    """Probabilities [S, V] after temperature, min-p, top-k and top-p; not normalised again."""

    def column(values: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(values[rows]).to(logits.device)[:, None]

    probs = (logits / column(batch.temperature)).softmax(-1)
    if (batch.min_p[rows] > 0).any():
        probs = probs.where(probs >= column(batch.min_p) * probs.amax(-1, keepdim=True), 0)
    top_k, top_p = batch.top_k[rows], batch.top_p[rows]
    if (top_k > 0).any() or (top_p < 1).any():
        threshold = _threshold(probs, torch.from_numpy(top_k).to(logits.device)[:, None], column(batch.top_p))
        probs = probs.where(probs >= threshold, 0)
    return probs


def _threshold(probs: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """The least probability [S, 1] that top-k, then top-p of what top-k left, keep. Equals stay together."""
    vocab_size = probs.shape[-1]
    by_p_alone = (top_k == 0) & (top_p < 1)
    shortlist = min(max(int(top_k.max()), _TOP_P_SHORTLIST if by_p_alone.any() else 1), vocab_size)
    best = probs.topk(shortlist, dim=-1).values
    mass = best.cumsum(-1, dtype=torch.float64)
    total = probs.sum(-1, keepdim=True).double()
    if (by_p_alone & (mass[:, -1:] < top_p * total)).any():
        best = probs.sort(dim=-1, descending=True).values
        mass = best.cumsum(-1, dtype=torch.float64)
    kept = torch.where(top_k > 0, mass.gather(1, (top_k - 1).clamp(min=0)), total)
    # Rounding may leave the last sum just short of the whole: the last candidate then closes the set.
    last = (mass < top_p * kept).sum(-1, keepdim=True).clamp(max=best.shape[-1] - 1)
    by_p = torch.where(top_p < 1, best.gather(1, last), 0)
    by_k = torch.where(top_k > 0, best.gather(1, (top_k - 1).clamp(min=0)), 0)
    return torch.maximum(by_p, by_k)


def _draw(probs: Tensor, draws: Tensor) -> Tensor:
    """The token at which each row's cumulative probability passes ``draws`` [S] of its total."""
    cumulative = probs.cumsum(-1, dtype=torch.float64)
    total = cumulative[:, -1:]
    # Strictly below the total, whatever rounding does, so that a token of probability 0 is never drawn.
    targets = torch.minimum(draws[:, None] * total, total.nextafter(torch.zeros_like(total)))
    # Where a broken model says NaN every search runs off the end.
    return torch.searchsorted(cumulative, targets, right=True)[:, 0].clamp(max=probs.shape[-1] - 1)


def _index(rows: NDArray[np.int64], like: Tensor) -> Tensor:
    return torch.from_numpy(rows).to(like.device)


def _splitmix64(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    value = value + np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
