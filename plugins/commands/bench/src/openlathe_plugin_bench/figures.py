"""Numbers made of many measurements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` percent of ``values`` lie, between two neighbours by straight line."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * share / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0


def deviation(values: Sequence[float]) -> float:
    """The standard deviation of all there are."""
    centre = mean(values)
    return math.sqrt(mean([(value - centre) ** 2 for value in values]))


def percent(share: float) -> str:
    """``99.0`` -> ``99``, ``99.9`` -> ``99.9``, as names of percentiles have it."""
    return str(int(share)) if share == int(share) else str(share)
