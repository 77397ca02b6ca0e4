"""Words that do not matter, in front of what users say and behind it: what is wanted is told by the others.

Without them a small model knows its few hundred sentences by heart, and no other that mean the same.
"""

from __future__ import annotations

from random import Random

from .book import ROOT
from .phrases import uncapitalised

FILLERS = (ROOT / "words" / "fillers.txt").read_text(encoding="utf-8").split()
#: How often a sentence is left as it is.
CLEAN = 0.8


class Noise:
    def __init__(self, rng: Random) -> None:
        self.rng = rng

    def around(self, sentence: str) -> str:
        """Words in front and behind; none is lost, because each of them may tell what is meant."""
        if self.rng.random() < CLEAN:
            return sentence
        if self.rng.random() < 0.7:
            sentence = self._before(sentence)
        if sentence[-1:] in ".?!" and self.rng.random() < 0.25:
            sentence = f"{sentence[:-1]}{self.rng.choice((' ', ', '))}{self._words(2)}{sentence[-1]}"
        return sentence

    def before(self, sentence: str) -> str:
        """Words in front alone: what follows is to be taken literally."""
        return sentence if self.rng.random() < CLEAN else self._before(sentence)

    def _before(self, sentence: str) -> str:
        opening = self._words(4)
        if self.rng.random() < 0.5:
            opening = opening.capitalize()
        if self.rng.random() < 0.7:
            sentence = uncapitalised(sentence)
        return f"{opening}{self.rng.choice((' ', ' ', ', ', ': ', '. '))}{sentence}"

    def _words(self, most: int) -> str:
        return " ".join(self.rng.choice(FILLERS) for _ in range(self.rng.randint(1, most)))
