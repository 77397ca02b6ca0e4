"""A loss curve as SVG, without a plotting library."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 720, 300, 44
SMOOTHING = 0.95
GRID = 5


def write_curve(file: Path, title: str, losses: Sequence[float]) -> None:
    """The losses of the steps in grey, their moving average in blue."""
    highest, steps = max(losses), max(1, len(losses) - 1)

    def point(step: int, loss: float) -> str:
        x = MARGIN + (WIDTH - 2 * MARGIN) * step / steps
        return f"{x:.1f},{HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * loss / highest:.1f}"

    def line(values: Sequence[float], colour: str, width: float) -> str:
        stride = max(1, len(values) // WIDTH)
        points = " ".join(point(step, values[step]) for step in range(0, len(values), stride))
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{width}"/>'

    marks = [highest * part / GRID for part in range(GRID + 1)]
    grid = [f'<text x="4" y="{point(0, mark).split(",")[1]}">{mark:.2f}</text>' for mark in marks]
    legend = f'<text x="{MARGIN}" y="20">{title}: loss of a token over {len(losses):,} steps</text>'
    body = [legend, *grid, line(losses, "#bbb", 0.6), line(smoothed(losses), "#06c", 1.6)]
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    file.write_text("\n".join([head, *body, "</svg>\n"]), encoding="utf-8")


def smoothed(losses: Sequence[float]) -> list[float]:
    average, found = losses[0], []
    for loss in losses:
        average = SMOOTHING * average + (1 - SMOOTHING) * loss
        found.append(average)
    return found
