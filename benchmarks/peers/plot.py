"""The ratios as a picture: a bar for each thing that is wanted, from the lowest round to the highest, in SVG."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from .results import Ratio, Results, ratio
from .rows import ROWS
from .table import FIGURES

LABELS, WIDTH, LINE, MARGIN = 430, 420, 26, 34
REACHED, MISSED = "#2a78b5", "#c8553d"


def plot(results: Results) -> str:
    """How many times as good ours is; a tick marks what is wanted."""
    bars = list(_bars(results))
    scale = WIDTH / max([1.5, *(max(found.spread.most, wanted) for _, found, wanted in bars)])
    height = MARGIN + LINE * len(bars) + 10
    size = f'width="{LABELS + WIDTH + 80}" height="{height}"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">']
    parts.append('<rect width="100%" height="100%" fill="white"/>')
    one = LABELS + scale
    parts.append(f'<line x1="{one:.1f}" x2="{one:.1f}" y1="20" y2="{height - 6}" stroke="#999" stroke-dasharray="3"/>')
    parts.append(f'<text x="{one:.1f}" y="14" text-anchor="middle" fill="#666">1.0</text>')
    for index, (label, found, wanted) in enumerate(bars):
        parts += _bar(MARGIN + LINE * index, label, found, wanted, scale)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bars(results: Results) -> Iterator[tuple[str, Ratio, float]]:
    for row in ROWS.values():
        for claim in row.claims:
            if found := ratio(results, row, claim.against, claim.figure):
                yield f"{row.name}{FIGURES[claim.figure]} / {claim.against}", found, claim.ratio


def _bar(top: float, label: str, found: Ratio, wanted: float, scale: float) -> Iterator[str]:
    spread, middle = found.spread, top + 9
    color = REACHED if spread.median >= wanted else MISSED
    least, median, most, mark = (LABELS + scale * value for value in (spread.least, spread.median, spread.most, wanted))
    yield f'<text x="{LABELS - 8}" y="{top + 13}" text-anchor="end">{escape(label)}</text>'
    yield f'<rect x="{LABELS}" y="{top}" width="{median - LABELS:.1f}" height="18" fill="{color}"/>'
    yield f'<line x1="{least:.1f}" x2="{most:.1f}" y1="{middle}" y2="{middle}" stroke="black"/>'
    yield f'<line x1="{mark:.1f}" x2="{mark:.1f}" y1="{top - 3}" y2="{top + 21}" stroke="black" stroke-width="2"/>'
    yield f'<text x="{max(most, mark) + 6:.1f}" y="{top + 13}">{spread.median:.2f}</text>'
