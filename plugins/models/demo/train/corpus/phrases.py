"""Sentence patterns: ``(one|another|)`` stands for one of its alternatives, ``{slot}`` for a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from random import Random

_CHOICE = re.compile(r"\(([^()]*\|[^()]*)\)")
_SLOT = re.compile(r"\{(\w+)\}")


def say(
    rng: Random,
    pattern: str,
    slots: Mapping[str, object] | None = None,
    *,
    change: Callable[[str], str] = lambda sentence: sentence,
) -> str:
    """One sentence of ``pattern``, to which ``change`` is done. Values of slots are put in last and never read as
    patterns.
    """
    while match := _CHOICE.search(pattern):
        pattern = pattern[: match.start()] + rng.choice(match[1].split("|")) + pattern[match.end() :]
    return fill(change(_tidy(pattern)), slots or {})


def fill(text: str, slots: Mapping[str, object]) -> str:
    return _SLOT.sub(lambda match: str(slots[match[1]]), text)


def slots_of(pattern: str) -> set[str]:
    return set(_SLOT.findall(pattern))


def every(pattern: str) -> Iterator[str]:
    """All sentences of ``pattern``, slots left open."""
    match = _CHOICE.search(pattern)
    if match is None:
        yield _tidy(pattern)
        return
    for choice in match[1].split("|"):
        yield from every(pattern[: match.start()] + choice + pattern[match.end() :])


def _tidy(text: str) -> str:
    """An empty alternative leaves a space too many."""
    return re.sub(" +", " ", text).strip(" ")


def uncapitalised(sentence: str) -> str:
    """As it stands behind another part of a sentence; what begins with several capitals is a name."""
    return sentence[:1].lower() + sentence[1:] if sentence[1:2].islower() else sentence
