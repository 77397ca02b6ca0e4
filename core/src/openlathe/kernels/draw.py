"""A draw from what temperature and the filters leave of each row.

Every function here treats each row by itself, so that a row's token depends on nothing that stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .blocks import WIDTH, blocks, largest
from .transfer import select, to_device

#: Candidates that hold all of a top-p most of the time.
_SHORTLIST = 256


@dataclass(frozen=True)
class Filters:
    """What narrows the choice of S rows, as in ``SamplingParams``; ``top_k`` 0 is off."""

    top_k: NDArray[np.int64]
    top_p: NDArray[np.float64]
    min_p: NDArray[np.float64]


class DrawOperator(Protocol):
    def __call__(
        self,
        scores: Tensor,
        temperature: NDArray[np.float32],
        filters: Filters,
        uniform: NDArray[np.float64],
    ) -> Tensor:
        """A token [S] int64 for each row of ``scores`` [S, V], any float dtype, which are left as they are.

        Scores are divided by ``temperature`` [S], above zero. Min-p, then top-k, then top-p narrow the choice; tokens
        of equal probability stay or go together. What is left is cumulated in the order of the vocabulary, and the
        token is the one at which the sum passes ``uniform`` [S], in [0, 1), of the whole; one of probability 0 never
        is. Arrays are the host's; ``top_k``, where it is not 0, is below V. A row that is no distribution, such as one
        that is not a number, still gets a token. Never part of a captured step: the arrays differ from call to call.
        """
        ...


def draw(scores: Tensor, temperature: NDArray[np.float32], filters: Filters, uniform: NDArray[np.float64]) -> Tensor:
    """By sums over blocks of the vocabulary, :class:`DrawOperator`."""
    probs = (scores.float() / to_device(temperature[:, None], scores.device)).softmax(-1)
    return _invert(filtered(probs, filters), to_device(uniform, scores.device)[:, None])


def filtered(probs: Tensor, filters: Filters) -> Tensor:
    """``probs`` [S, V] with zeros where min-p, then top-k, then top-p leave a token out; not normalised again.

    Tokens of equal probability stay or go together. May change ``probs`` in place.
    """
    if (filters.min_p > 0).any():
        least = to_device(filters.min_p, probs.device)[:, None] * probs.amax(-1, keepdim=True)
        probs = _kept(probs, least.float())
    by_rank = np.nonzero(filters.top_k > 0)[0]
    by_mass = np.nonzero((filters.top_k == 0) & (filters.top_p < 1))[0]
    if not len(by_rank) and not len(by_mass):
        return probs
    least = probs.new_zeros(len(probs), 1)
    if len(by_rank):
        found = _top_k(select(probs, by_rank), filters.top_k[by_rank], filters.top_p[by_rank])
        least.index_copy_(0, to_device(by_rank, probs.device), found)
    if len(by_mass):
        found = _top_p(select(probs, by_mass), filters.top_p[by_mass])
        least.index_copy_(0, to_device(by_mass, probs.device), found)
    return _kept(probs, least)


# -- thresholds: the least probability [S, 1] that is kept --------------------------------------------------------


def _top_k(probs: Tensor, top_k: NDArray[np.int64], top_p: NDArray[np.float64]) -> Tensor:
    """Top-k, and top-p of what it leaves."""
    best = largest(probs, int(top_k.max()))[0]
    last = to_device(top_k - 1, probs.device)[:, None]
    by_k = best.gather(1, last)
    if (top_p == 1).all():
        return by_k
    share = to_device(top_p, probs.device)[:, None]
    # What is left may be more than k tokens, and more than are on the list, where several are as good as the last one.
    by_p = _reach(best, best.cumsum(-1, dtype=torch.float64), share * _mass(_kept(probs, by_k)))
    return torch.where(share < 1, by_p.maximum(by_k), by_k)


def _top_p(probs: Tensor, top_p: NDArray[np.float64]) -> Tensor:
    """Top-p of the whole vocabulary. On a CPU a short list is tried first: only there is asking what it holds free."""
    wanted = to_device(top_p, probs.device)[:, None] * _mass(probs)
    if probs.device.type != "cpu":
        return _bisect(probs, wanted)
    best = largest(probs, min(_SHORTLIST, probs.shape[-1]))[0]
    mass = best.cumsum(-1, dtype=torch.float64)
    least = _reach(best, mass, wanted)
    left = (mass[:, -1:] < wanted).any(-1).nonzero()[:, 0]
    return least.index_copy_(0, left, _bisect(probs[left], wanted[left])) if len(left) else least


def _bisect(probs: Tensor, wanted: Tensor) -> Tensor:
    """The greatest float32 such that the probabilities from it upwards make up ``wanted`` [S, 1].

    Floats that are not negative are in the order of their bits: 30 halvings of what is between 0 and 1 single one out,
    for less than sorting would cost, and without knowing how many candidates there are.
    """
    low = torch.zeros(len(probs), 1, dtype=torch.int32, device=probs.device)
    high = probs.amax(-1, keepdim=True).view(torch.int32) + 1
    kept = torch.empty_like(probs)
    for _ in range(30):
        middle = (low + high) // 2
        enough = _mass(_kept(probs, middle.view(torch.float32), out=kept)) >= wanted
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return low.view(torch.float32)


def _reach(best: Tensor, mass: Tensor, wanted: Tensor) -> Tensor:
    """The entry of ``best`` at which ``mass``, its cumulative sum, reaches ``wanted``."""
    # Rounding may leave the last sum just short of the whole: the last candidate then closes the set.
    return best.gather(1, (mass < wanted).sum(-1, keepdim=True).clamp(max=best.shape[-1] - 1))


def _mass(probs: Tensor) -> Tensor:
    """The sum of each row [S, 1] float64; a row of float32 is summed by blocks, the same way whatever is beside it."""
    return blocks(probs).sum(-1).sum(-1, keepdim=True, dtype=torch.float64)


def _kept(probs: Tensor, least: Tensor, out: Tensor | None = None) -> Tensor:
    """Zeros below the threshold; a product of floats is several times as fast as a masked choice."""
    return torch.ge(probs, least, out=torch.empty_like(probs) if out is None else out).mul_(probs)


# -- the draw -----------------------------------------------------------------------------------------------------


def _invert(probs: Tensor, uniform: Tensor) -> Tensor:
    """The token of each row at which the cumulative probability passes ``uniform`` [S, 1] of its total.

    In two levels: the block in which that happens, then the token in the block.
    """
    divided = blocks(probs)
    sizes = divided.sum(-1)
    ends = sizes.cumsum(-1, dtype=torch.float64)
    targets = _below(uniform * ends[:, -1:], ends[:, -1:])
    block = _passes(ends, targets)
    size = sizes.gather(1, block).double()
    # Both levels round differently, so what is left to walk is taken as a share of the block.
    share = ((targets - (ends.gather(1, block) - size)) / size).clamp(min=0)
    inside = divided.gather(1, block[:, :, None].expand(-1, -1, WIDTH))[:, 0].cumsum(-1, dtype=torch.float64)
    token = _passes(inside, _below(share * inside[:, -1:], inside[:, -1:]))
    return (block * WIDTH + token)[:, 0].clamp(max=probs.shape[-1] - 1)


def _passes(cumulative: Tensor, targets: Tensor) -> Tensor:
    """The first index [S, 1] at which ``cumulative`` [S, N] is above ``targets`` [S, 1]."""
    # Where a broken model says NaN every search runs off the end.
    return torch.searchsorted(cumulative, targets, right=True).clamp(max=cumulative.shape[-1] - 1)


def _below(targets: Tensor, total: Tensor) -> Tensor:
    """Strictly below the total, whatever rounding does, so that a token of probability 0 is never drawn."""
    return torch.minimum(targets, total.nextafter(torch.zeros_like(total)))
