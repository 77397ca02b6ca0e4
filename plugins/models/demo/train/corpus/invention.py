"""Invented words and values: what a model cannot know and so must copy.

A word belongs to the evaluation or to the corpus by its checksum, so that no invented word is ever in both.
"""

from __future__ import annotations

import string
import tomllib
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from random import Random
from zlib import crc32

from .book import HELD_OUT, LEARNT, ROOT, Book

SYLLABLES = [
    [part.strip("-") for part in parts.split()]
    for parts in tomllib.loads((ROOT / "words" / "syllables.toml").read_text(encoding="utf-8")).values()
]


#: Lists of words whose spelling invented ones may have.
SPELLED = ("things", "verbs", "adjectives", "animals", "foods", "colours", "fields", "options", "plain_words", "states")
LONGEST = 10


def is_held_out(word: str) -> bool:
    """Whether the evaluation alone may use ``word``: those of its lists, and one in eight of those in no list."""
    word = word.lower()
    return word not in words(LEARNT) and (word in words(HELD_OUT) or crc32(word.encode()) % 8 == 0)


@cache
def words(book: Book) -> frozenset[str]:
    """All of its lists, in small letters."""
    return frozenset(word.lower() for word in book.all_words())


@cache
def spelling() -> Mapping[str, str]:
    """Which letters follow two others in the words of the corpus, as often as they do; a space ends a word."""
    found: dict[str, str] = defaultdict(str)
    for word in sorted({word for name in SPELLED for word in LEARNT.words(name)}):
        for place, letter in enumerate(f"{word} "):
            found[f"  {word}"[place : place + 2]] += letter
    return found


class Inventor:
    """Draws invented words from ``rng``, either those of the corpus or those of the evaluation."""

    def __init__(self, rng: Random, *, held_out: bool) -> None:
        self.rng, self.held_out = rng, held_out

    def word(self) -> str:
        """Some syllables, such as ``brital``, or letters as they follow one another in English, such as ``wintle``."""
        while True:
            word = self._syllables() if self.rng.random() < 0.5 else self._spelled()
            if 2 < len(word) <= LONGEST and is_held_out(word) == self.held_out:
                return word

    def name(self) -> str:
        return self.word().capitalize()

    def code(self) -> str:
        """Letters and digits as references have them, such as ``QX-483``."""
        while True:
            letters = "".join(self.rng.choices(string.ascii_uppercase, k=self.rng.randint(1, 3)))
            code = f"{letters}{self.rng.choice(('', '-', '-', '_'))}{self.digits(1, 4)}"
            if is_held_out(code) == self.held_out:
                return code

    def digits(self, fewest: int, most: int) -> str:
        return "".join(self.rng.choices(string.digits, k=self.rng.randint(fewest, most)))

    def _syllables(self) -> str:
        count = self.rng.choice((1, 2, 2, 2, 2, 3))
        return "".join(self.rng.choice(parts) for _ in range(count) for parts in SYLLABLES)

    def _spelled(self) -> str:
        word = "  "
        while not word.endswith(" ", 2) and len(word) < LONGEST + 4:
            word += self.rng.choice(spelling()[word[-2:]])
        return word.strip()
