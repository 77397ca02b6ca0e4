"""Words on a terminal: tables that fit it, colour where it is welcome."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence

_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33"}


def say(text: str = "") -> None:
    sys.stdout.write(text + "\n")


def complain(text: str) -> None:
    sys.stderr.write(text + "\n")


def width() -> int:
    """Columns to fill: the terminal's, at most 120; 120 where the output is no terminal."""
    return min(120, shutil.get_terminal_size((120, 24)).columns) if sys.stdout.isatty() else 120


def paint(text: str, style: str) -> str:
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def table(header: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str | None] | None = None) -> str:
    """Columns as wide as their longest cell; the last one takes what is left and is wrapped.

    ``styles`` names for each row the colour of its first cell, or None.
    """
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    room = max(24, width() - sum(widths[:-1]) - 2 * (len(widths) - 1))
    lines = [paint(_line(header, widths), "bold")]
    for number, row in enumerate(rows):
        first, *more = textwrap.wrap(row[-1], room, break_on_hyphens=False) or [""]
        line = _line([*row[:-1], first], widths)
        style = styles[number] if styles else None
        lines.append(paint(line[: widths[0]], style) + line[widths[0] :] if style else line)
        indent = " " * (sum(widths[:-1]) + 2 * (len(widths) - 1))
        lines += [indent + rest for rest in more]
    return "\n".join(line.rstrip() for line in lines)


def wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(text, width(), subsequent_indent=indent, break_on_hyphens=False, break_long_words=False)


def size(count: int) -> str:
    """``114688`` -> ``112 KiB``."""
    value, units = float(count), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.4g} {units[0]}"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(size) for cell, size in zip(cells, widths, strict=True))
