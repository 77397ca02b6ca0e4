"""The stream of conversations: skills in the proportions of the recipe, each from a seed of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from .book import Book
from .conversation import Conversation
from .scene import Scene
from .skills import calls, talk
from .switches import switched
from .tools import Tool

T = TypeVar("T")

SKILLS: Mapping[str, Callable[[Scene], Conversation]] = {
    "repeat": talk.repeat,
    "chat": talk.chat,
    "memory": talk.memory,
    "facts": talk.facts,
    "sums": talk.sums,
    "persona": talk.persona,
    "pick": calls.pick,
    "fill": calls.fill,
    "call": calls.call,
    "two_calls": calls.two_calls,
    "follow_up": calls.follow_up,
    "decline": calls.decline,
    "idle": calls.idle,
    "result": calls.result,
}


@dataclass(frozen=True)
class Box:
    """How tools are drawn which several conversations then have: tools are read but once, and it is the wishes that
    tell what is to be done. ``skills`` are what these conversations are about; there are ``wishes`` of them.
    """

    tools: Callable[[Scene], Sequence[Tool]]
    skills: Sequence[str]
    wishes: int


#: The first box of a skill is the one it is examined with.
BOXES = (
    Box(calls.some_tools, ("call", "two_calls", "decline", "idle"), 4),
    Box(calls.plain_tools, ("pick", "decline"), 6),
    Box(calls.one_tool, ("fill", "decline"), 6),
)


def converse(skill: str, seed: object, book: Book, tools: Sequence[Tool] | None = None) -> Conversation:
    """The conversation that ``seed`` stands for, with ``tools``, or with such as the skill is learnt with."""
    rng = Random(f"{seed}/{skill}/{book.name}")
    scene = Scene(rng, book)
    box = next((box for box in BOXES if skill in box.skills), None)
    if box:
        scene.tools = tools or box.tools(scene)
    return switched(SKILLS[skill](scene), rng)


def stream(shares: Mapping[str, float], seed: object, book: Book) -> Iterator[list[Conversation]]:
    """Endless; ``shares`` says how often each skill comes. Conversations that begin alike come together."""
    rng = Random(str(seed))
    boxes = Counter(skill for box in BOXES for skill in box.skills)
    boxed = {box: {skill: shares[skill] / boxes[skill] for skill in box.skills if skill in shares} for box in BOXES}
    alone: dict[str | Box, float] = {
        skill: share for skill, share in shares.items() if not any(skill in skills for skills in boxed.values())
    }
    chances: dict[str | Box, float] = {**alone, **{box: sum(of.values()) / box.wishes for box, of in boxed.items()}}
    while True:
        start = drawn(rng, chances)
        if isinstance(start, Box):
            tools = start.tools(Scene(Random(rng.getrandbits(64)), book))
            skills = [drawn(rng, boxed[start]) for _ in range(start.wishes)]
            yield [converse(skill, rng.getrandbits(64), book, tools) for skill in skills]
        else:
            yield [converse(start, rng.getrandbits(64), book)]


def drawn(rng: Random, shares: Mapping[T, float]) -> T:
    (found,) = rng.choices(list(shares), list(shares.values()))
    return found
