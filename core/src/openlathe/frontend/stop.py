"""Stop strings over a stream of pieces, holding back only what may yet be one of them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence

from ..spi.events import Piece, Special, Text


class StopStrings:
    """Cuts a stream at the first stop string.

    The first is the one that ends first, and of several that end together the longest; so the result does not depend
    on where the stream was cut. A stop string may run over borders of pieces; special tokens in ``hidden`` are not
    part of the text. Each character is looked at once (Aho and Corasick, "Efficient string matching", 1975).
    """

    def __init__(self, stop: Sequence[str], include: bool = False, *, hidden: frozenset[int] = frozenset()) -> None:
        """``include`` keeps the stop string itself in the output."""
        self._automaton = _Automaton(stop)
        self._include = include
        self._hidden = hidden
        self._state = 0
        self._held: deque[Piece] = deque()
        self._held_characters = 0
        self._matched = False

    def feed(self, pieces: Iterable[Piece]) -> tuple[list[Piece], str | None]:
        """The pieces that are certain, and the stop string once it is found; nothing comes after it."""
        out: list[Piece] = []
        for piece in pieces:
            if self._matched:
                break
            stop, consumed = self._scan(self._visible(piece))
            if stop is not None:
                self._matched = True
                self._hold(_head(piece, consumed))
                keep = self._held_characters - (0 if self._include else len(stop))
                self._release(out, keep, cut=True)
                self._held.clear()
                return out, stop
            self._hold(piece)
            self._release(out, self._held_characters - self._automaton.depth[self._state], cut=False)
        return out, None

    def finish(self) -> list[Piece]:
        """What was held back and turned out not to be a stop string."""
        rest = list(self._held)
        self._held.clear()
        self._held_characters = 0
        return rest

    def _scan(self, text: str) -> tuple[str | None, int]:
        """The stop string that ends first in ``text`` and how many characters lead up to its end."""
        automaton, state, position = self._automaton, self._state, 0
        while position < len(text):
            if state == 0:
                position = automaton.next_start(text, position)
                if position == len(text):
                    break
            state = automaton.step(state, text[position])
            position += 1
            if (stop := automaton.ends[state]) is not None:
                return stop, position
        self._state = state
        return None, len(text)

    def _visible(self, piece: Piece) -> str:
        return "" if isinstance(piece, Special) and piece.id in self._hidden else piece.text

    def _hold(self, piece: Piece) -> None:
        self._held.append(piece)
        self._held_characters += len(self._visible(piece))

    def _release(self, out: list[Piece], characters: int, *, cut: bool) -> None:
        """Moves the first ``characters`` held ones to ``out``; a special token is parted only where ``cut``."""
        while self._held:
            piece = self._held[0]
            length = len(self._visible(piece))
            if length <= characters:
                out.append(self._held.popleft())
            elif characters and (cut or isinstance(piece, Text)):
                out.append(Text(piece.text[:characters]))
                self._held[0] = Text(piece.text[characters:])
                length = characters
            else:
                break
            characters -= length
            self._held_characters -= length


def _head(piece: Piece, characters: int) -> Piece:
    return piece if characters >= len(piece.text) else Text(piece.text[:characters])


class _Automaton:
    """The goto, failure and output functions of Aho and Corasick; state 0 is the root.

    ``depth[state]`` is how many of the last characters may begin a stop string, ``ends[state]`` the longest stop
    string that ends there.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._next: list[dict[str, int]] = [{}]
        self._fail = [0]
        self.depth = [0]
        self.ends: list[str | None] = [None]
        for word in words:
            if word:
                self._add(word)
        self._link()
        self._starts = re.compile("|".join(map(re.escape, self._next[0])) or "(?!)")

    def step(self, state: int, character: str) -> int:
        while state and character not in self._next[state]:
            state = self._fail[state]
        return self._next[state].get(character, 0)

    def next_start(self, text: str, position: int) -> int:
        """Where the next stop string may begin, or ``len(text)``."""
        found = self._starts.search(text, position)
        return found.start() if found else len(text)

    def _add(self, word: str) -> None:
        state = 0
        for character in word:
            if character not in self._next[state]:
                self._next[state][character] = len(self._next)
                self._next.append({})
                self._fail.append(0)
                self.depth.append(self.depth[state] + 1)
                self.ends.append(None)
            state = self._next[state][character]
        self.ends[state] = word

    def _link(self) -> None:
        queue = deque(self._next[0].values())
        while queue:
            state = queue.popleft()
            for character, child in self._next[state].items():
                self._fail[child] = self.step(self._fail[state], character)
                self.ends[child] = self.ends[child] or self.ends[self._fail[child]]
                queue.append(child)
