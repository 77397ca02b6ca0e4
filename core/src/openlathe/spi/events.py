"""What flows through stream parsers: pieces of generated text in, events out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Text:
    """Ordinary generated text; never a part of a character."""

    text: str


@dataclass(frozen=True, slots=True)
class Special:
    """One entry of the tokenizer's ``added_tokens``, whatever its ``special`` flag says.

    The flag only decides whether the token is visible in an answer; a marker that arrives as ``Special`` is meant as
    a marker, and text that merely looks like one arrives as :class:`Text`.
    """

    id: int
    text: str


Piece = Text | Special


@dataclass(frozen=True, slots=True)
class Content:
    """Text of the answer itself."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Text of the model's visible thinking."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallStart:
    """A call begins: ``index`` counts calls from 0 within one choice, ``id`` is unique within one answer."""

    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallArguments:
    """The next characters of call ``index``'s arguments; together they are the text of one JSON object."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class ToolCallEnd:
    """Call ``index`` is complete. A call that was cut or malformed never gets one."""

    index: int


Event = Content | Reasoning | ToolCallStart | ToolCallArguments | ToolCallEnd
