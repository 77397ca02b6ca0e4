"""The file of results: figures and the runs they come from. What is measured is kept, so that a run can go on later."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .rows import LOWER, Row, Variant

#: The row of the read bandwidth, which no engine has.
BANDWIDTH = "bandwidth"
MACHINE = "machine"


@dataclass
class Results:
    """Figures are dictionaries: ``row``, ``variant``, ``round``, ``run`` (an index of ``runs``), ``value`` and more."""

    path: Path
    runs: list[dict[str, Any]] = field(default_factory=list)
    figures: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Results:
        if not path.exists():
            return cls(path)
        stored = json.loads(path.read_text())
        return cls(path, stored["runs"], stored["figures"])

    def save(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps({"runs": self.runs, "figures": self.figures}, indent=1) + "\n")
        partial.rename(self.path)

    def add(self, row: str, variant: str, number: int, figure: dict[str, Any]) -> None:
        """Keeps a figure of the run that was begun last, on disk at once."""
        kept = {name: round(value, 6) for name, value in figure.items()}
        self.figures.append({"row": row, "variant": variant, "round": number, "run": len(self.runs) - 1, **kept})
        self.save()

    def has(self, row: str, variant: str, number: int) -> bool:
        return any((kept["row"], kept["variant"], kept["round"]) == (row, variant, number) for kept in self.figures)

    def of(self, row: str, variant: str, figure: str = "value") -> dict[tuple[int, int], float]:
        """(Run, round) -> the figure there."""
        return {
            (kept["run"], kept["round"]): kept[figure]
            for kept in self.figures
            if kept["row"] == row and kept["variant"] == variant and figure in kept
        }

    def variants(self, row: str) -> list[str]:
        return list(dict.fromkeys(kept["variant"] for kept in self.figures if kept["row"] == row))


@dataclass(frozen=True)
class Spread:
    """A median, between the least and the most that it is the median of."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        known = list(values)
        return cls(statistics.median(known), min(known), max(known))


@dataclass(frozen=True)
class Ratio:
    """How many times as good ours is, from so many ``pairs`` of one round each; from medians where there are none."""

    spread: Spread
    pairs: int


def ratio(results: Results, row: Row, against: Variant, figure: str = "value") -> Ratio | None:
    """Ours over theirs, turned round where less is better; None where one of them is missing.

    Figures of one round are compared with one another and the median is that of these ratios; where no round has both,
    medians are compared.
    """
    ours = results.of(row.name, str(row.ours), figure)
    theirs = results.of(row.name, str(against), figure)
    if not ours or not theirs:
        return None
    both = sorted(ours.keys() & theirs.keys())
    pairs = [(ours[key], theirs[key]) for key in both]
    if not pairs:
        pairs = [(statistics.median(ours.values()), statistics.median(theirs.values()))]
    lower = figure in LOWER or (figure == "value" and row.lower_is_better)
    return Ratio(Spread.of(theirs / ours if lower else ours / theirs for ours, theirs in pairs), len(both))


def share_of_bandwidth(results: Results, row: Row) -> Ratio | None:
    """The rate at which our row reads its weights, in parts of the bandwidth that was measured in the same round."""
    ours, measured = results.of(row.name, str(row.ours)), results.of(BANDWIDTH, MACHINE)
    both = sorted(ours.keys() & measured.keys())
    if not both:
        return None
    return Ratio(Spread.of(ours[key] * row.weight_bytes / 1e9 / measured[key] for key in both), len(both))
