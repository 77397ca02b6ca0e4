"""Golden transcripts: what a model of a format writes, and what a parser must make of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ExpectedCall:
    """A complete call with its ``arguments``; or, of one that is cut or malformed, the text that was ``sent``."""

    name: str
    arguments: Mapping[str, Any] | None = None
    sent: str | None = None


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """One answer and its meaning.

    Attributes:
        output: the text that the model writes.
        prompt_tail: the end of the prompt it goes on from.
        tools: the tools it was offered, in OpenAI's shape.
        reasoning, content, calls: what a client is to get.
    """

    name: str
    output: str
    prompt_tail: str = ""
    tools: Sequence[Mapping[str, Any]] = ()
    reasoning: str = ""
    content: str = ""
    calls: tuple[ExpectedCall, ...] = ()


def load_transcripts(folder: Path) -> list[Transcript]:
    """Every transcript in the ``*.json`` files of ``folder``; each file holds a list of objects with our fields.

    Raises ``ValueError`` that names the file and the transcript which cannot be read.
    """
    found: list[Transcript] = []
    for file in sorted(folder.glob("*.json")):
        for entry in json.loads(file.read_text(encoding="utf-8")):
            try:
                calls = tuple(ExpectedCall(**call) for call in entry.pop("calls", ()))
                found.append(Transcript(**entry, calls=calls))
            except TypeError as error:
                raise ValueError(f"{file}: the transcript {entry.get('name')!r} is not well formed: {error}") from error
    return found
