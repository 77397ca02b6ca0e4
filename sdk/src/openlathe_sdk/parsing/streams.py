"""Driving a parser: every way of cutting a stream, and what came out of it in a form that can be compared."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from openlathe.spi import (
    Content,
    Event,
    ParserContext,
    Piece,
    Reasoning,
    Special,
    StreamParser,
    Text,
    ToolCallArguments,
    ToolCallEnd,
    ToolCallStart,
)

ParserFactory = Callable[[ParserContext], StreamParser]
Chunks = Iterable[Sequence[Piece]]
#: The events that carry text.
TEXTUAL = (Content, Reasoning, ToolCallArguments)

#: Roughly what a tokenizer makes of text: short words with the space before them, runs of marks, runs of white space.
_TOKENS = re.compile(r" ?\w{1,6}|[^\w\s]{1,4}|\s{1,8}")


# -- cutting ------------------------------------------------------------------------------------------------------


def pieces_of(output: str, tokens: Collection[str]) -> list[Piece]:
    """``output`` as a detokenizer hands it on, where the vocabulary has ``tokens`` as added tokens."""
    if not tokens:
        return [Text(output)] if output else []
    ids = {token: 100 + place for place, token in enumerate(sorted(tokens))}
    alternatives = "|".join(re.escape(token) for token in sorted(tokens, key=len, reverse=True))
    parts = (part for part in re.split(f"({alternatives})", output) if part)
    return [Special(ids[part], part) if part in ids else Text(part) for part in parts]


def units(pieces: Sequence[Piece]) -> list[Piece]:
    """What cannot be cut any further: single characters, and whole tokens."""
    found: list[Piece] = []
    for piece in pieces:
        found += [piece] if isinstance(piece, Special) else map(Text, piece.text)
    return found


def cut(units: Sequence[Piece], points: Iterable[int]) -> Iterator[list[Piece]]:
    """The stream cut before the units at ``points``: one list of pieces per part, empty behind the stream's end."""
    edges = [0, *sorted(set(points) - {0, len(units)}), len(units)]
    for start, end in pairwise(edges):
        part: list[Piece] = []
        for unit in units[start:end]:
            if part and isinstance(unit, Text) and isinstance(part[-1], Text):
                part[-1] = Text(part[-1].text + unit.text)
            else:
                part.append(unit)
        yield part


def token_by_token(pieces: Sequence[Piece]) -> Iterator[Sequence[Piece]]:
    for piece in pieces:
        if isinstance(piece, Special):
            yield [piece]
        else:
            yield from ([Text(token)] for token in _TOKENS.findall(piece.text))


# -- what came out ------------------------------------------------------------------------------------------------


@dataclass
class Call:
    """A call as a client sees it: the text of its arguments, and whether it was completed."""

    name: str
    arguments: str = ""
    ended: bool = False


@dataclass
class Outcome:
    """Everything a client gets from one answer, folded."""

    reasoning: str = ""
    content: str = ""
    calls: list[Call] = field(default_factory=list)


def drive(parser: StreamParser, chunks: Chunks, *, finish: bool = True) -> list[Event]:
    """The events of one stream; unclaimed pieces become content."""
    events = [event for chunk in chunks for event in as_events(parser.feed(chunk))]
    return events + as_events(parser.finish()) if finish else events


def as_events(items: Iterable[Event | Piece]) -> list[Event]:
    return [Content(item.text) if isinstance(item, (Text, Special)) else item for item in items]


def comparable(events: Iterable[Event]) -> list[Event]:
    """Events in a form that does not show how they were cut: neighbours of one kind joined, random ids left out."""
    found: list[Event] = []
    for event in events:
        last = found[-1] if found else None
        if isinstance(event, ToolCallStart):
            event = replace(event, id="")
        elif isinstance(event, TEXTUAL):
            if not event.text:
                continue
            if isinstance(last, type(event)) and replace(last, text=event.text) == event:
                found.pop()
                event = replace(event, text=last.text + event.text)
        found.append(event)
    return found


def fold(events: Iterable[Event]) -> Outcome:
    """What a client has at the end.

    Raises ``AssertionError`` for a stream of events that means nothing: calls that do not count from 0, arguments of
    a call that is not the last one or has ended, an empty name, an id that is empty or repeats.
    """
    outcome = Outcome()
    ids: set[str] = set()
    for event in events:
        if isinstance(event, Content):
            outcome.content += event.text
        elif isinstance(event, Reasoning):
            outcome.reasoning += event.text
        elif isinstance(event, ToolCallStart):
            assert event.index == len(outcome.calls), f"call {event.index} starts after {len(outcome.calls)} calls"
            assert event.name, "a call starts without a name"
            assert event.id not in ids | {""}, f"the id {event.id!r} is empty or was given before"
            ids.add(event.id)
            outcome.calls.append(Call(event.name))
        else:
            assert event.index == len(outcome.calls) - 1, f"{event} is not about the last call"
            call = outcome.calls[-1]
            assert not call.ended, f"{event} comes after the end of its call"
            if isinstance(event, ToolCallEnd):
                call.ended = True
            else:
                call.arguments += event.text
    return outcome
