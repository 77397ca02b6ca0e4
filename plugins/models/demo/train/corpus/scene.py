"""What a skill makes its conversations with: chance, a book, and values drawn from both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any

from .book import Book
from .conversation import Message
from .noise import Noise
from .phrases import say
from .tools import Tool
from .values import Values

OPENINGS = ("Hey, ", "Hi! ", "Hello. ", "Please: ", "So, ", "Ok, ", "One question: ", "Tell me, ", "Hm, ", "Well, ")


class Scene:
    """``tools`` are those at hand, where they are drawn before what is wished for."""

    def __init__(self, rng: Random, book: Book) -> None:
        self.rng, self.book = rng, book
        self.tools: Sequence[Tool] = ()
        self.values = Values(rng, book)
        self.noise = Noise(rng)

    def say(self, patterns: list[str], **slots: object) -> str:
        return say(self.rng, self.rng.choice(patterns), slots)

    def utter(
        self,
        patterns: list[str],
        slots: Mapping[str, object] | None = None,
        *,
        noise: Callable[[str], str] = str,
        literal: bool = False,
    ) -> str:
        """What users say, by one of ``patterns``; those of the evaluation say it as it stands."""
        change = str if self.book.held_out else noise
        text = say(self.rng, self.rng.choice(patterns), slots, change=change)
        return text if literal else self.casual(text)

    def casual(self, text: str) -> str:
        """As users type: not always with a capital, a full stop or without a few words around it."""
        if self.book.held_out:
            return text
        if self.rng.random() < 0.2:
            text = text[:1].lower() + text[1:]
        if self.rng.random() < 0.15:
            text = text.rstrip(".?!")
        if self.rng.random() < 0.15:
            text = self.rng.choice(OPENINGS) + text
        return text


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}
