"""What benchmarks print and write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from openlathe.api import say
from openlathe.spi import ConfigError

_WIDTH = 50
_NAME = 40

#: A name and its figure, or the title of those that follow.
Line = tuple[str, int | float] | str


def show(title: str, lines: Iterable[Line]) -> None:
    """The table that vLLM's ``bench serve`` prints, with the same names."""
    say(f"{f' {title} ':=^{_WIDTH}}")
    for line in lines:
        if isinstance(line, str):
            say(f"{line:-^{_WIDTH}}")
        else:
            name, value = line
            say(f"{name:<{_NAME}} {value:<10}" if isinstance(value, int) else f"{name:<{_NAME}} {value:<10.2f}")
    say("=" * _WIDTH)


def write_json(path: Path | None, figures: Any, *, append: bool = False) -> None:
    """``figures`` as JSON; ``append`` adds a line to what is there. Raises ``ConfigError`` for a path that refuses."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if append else "w", encoding="utf-8") as file:
            file.write(json.dumps(figures, indent=None if append else 4) + "\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; columns that begin with a digit lie to the right."""
    columns = list(zip(header, *rows, strict=True))
    shown = []
    for column in columns:
        width = max(map(len, column))
        numbers = any(cell[:1].isdigit() for cell in column[1:])
        shown.append([cell.rjust(width) if numbers else cell.ljust(width) for cell in column])
    return "\n".join("  ".join(line).rstrip() for line in zip(*shown, strict=True))
