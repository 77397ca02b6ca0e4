"""What a draw must answer: filters in float64 by sorting, and the numbers that tell the tokens apart."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from openlathe.kernels.draw import Filters

#: A token whose part of the number line is smaller is not asked for: rounding moves the borders.
SMALLEST = 1e-4
FILTERS = tuple(field.name for field in fields(Filters))


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One way to narrow a choice, as in ``SamplingParams``."""

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0


SHAPES = (
    Shape(),
    Shape(temperature=0.4),
    Shape(top_k=1),
    Shape(top_k=7),
    Shape(top_p=0.5),
    Shape(top_p=0.95, temperature=1.7),
    Shape(min_p=0.1),
    Shape(top_k=20, top_p=0.8),
    Shape(top_k=12, min_p=0.05, temperature=2.0),
    Shape(top_k=30, top_p=0.9, min_p=0.01, temperature=0.8),
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Draws whose answers are known: everything has an entry for each, ``tokens`` are the answers.

    ``rows`` says of which row of scores each draws.
    """

    rows: NDArray[np.int64]
    temperature: NDArray[np.float32]
    filters: Filters
    numbers: NDArray[np.float64]
    tokens: NDArray[np.int64]


def asked(scores: Tensor, shape: Shape) -> Asked:
    """For each token that ``shape`` leaves of ``scores`` [V], the number in the middle of its part of the line."""
    probabilities, top_p = _left(scores.double().cpu().numpy(), shape)
    ends = np.cumsum(probabilities)
    tokens = np.nonzero(probabilities > SMALLEST)[0]
    return Asked(
        rows=np.zeros(len(tokens), np.int64),
        temperature=np.full(len(tokens), shape.temperature, np.float32),
        filters=Filters(
            top_k=np.full(len(tokens), shape.top_k if shape.top_k < len(scores) else 0, np.int64),
            top_p=np.full(len(tokens), top_p),
            min_p=np.full(len(tokens), shape.min_p),
        ),
        numbers=(ends - probabilities / 2)[tokens],
        tokens=tokens,
    )


def asked_of_each(scores: Tensor) -> Asked:
    """One batch of all that is asked of each row of ``scores`` [len(SHAPES), V] by a shape of its own."""
    draws = [asked(row, shape) for row, shape in zip(scores, SHAPES, strict=True)]
    filters = {name: np.concatenate([getattr(one.filters, name) for one in draws]) for name in FILTERS}
    return Asked(
        rows=np.repeat(np.arange(len(draws)), [len(one.tokens) for one in draws]),
        temperature=np.concatenate([one.temperature for one in draws]),
        filters=Filters(**filters),
        numbers=np.concatenate([one.numbers for one in draws]),
        tokens=np.concatenate([one.tokens for one in draws]),
    )


def _left(scores: NDArray[np.float64], shape: Shape) -> tuple[NDArray[np.float64], float]:
    """The probabilities [V] that ``shape`` leaves of ``scores`` [V], and the top-p to ask for.

    That one is half way between two sums of probabilities, so that rounding does not decide how many it keeps.
    """
    weights = np.exp((scores - scores.max()) / shape.temperature)
    weights[weights < shape.min_p] = 0
    if 0 < shape.top_k < len(weights):
        weights[weights < np.sort(weights)[-shape.top_k]] = 0
    levels = np.unique(weights[weights > 0])[::-1]
    sums = np.array([weights[weights >= level].sum() for level in levels]) / weights.sum()
    if shape.top_p == 1 or len(levels) == 1:
        return weights / weights.sum(), 1.0
    last = min(int(np.searchsorted(sums, shape.top_p)), len(levels) - 2)
    top_p = (sums[last] + (sums[last - 1] if last else 0)) / 2
    weights[weights < levels[last]] = 0
    return weights / weights.sum(), float(top_p)
