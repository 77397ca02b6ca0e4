"""Values of arguments by kind: as a sentence says them and as JSON holds them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from .book import Book
from .invention import Inventor


class Value(NamedTuple):
    """``spoken`` stands in the sentence, ``json`` in the call."""

    spoken: str
    json: Any


class Values:
    """Draws values of the kinds that the books speak of, each with a method below."""

    def __init__(self, rng: Random, book: Book) -> None:
        self.rng, self.book = rng, book
        self.invent = Inventor(rng, held_out=book.held_out)

    def draw(self, kind: str) -> Value:
        found = getattr(self, f"_{kind}")()
        return found if isinstance(found, Value) else Value(str(found), found)

    def pick(self, words: str) -> str:
        return self.rng.choice(self.book.words(words))

    def schema(self, kind: str, options: list[str] | None = None) -> dict[str, Any]:
        """The JSON schema of a kind."""
        if options:
            return {"type": "string", "enum": options}
        return {"type": TYPES.get(kind, "string")}

    def options(self, value: str) -> list[str]:
        """A choice of words in which ``value`` is one."""
        others = self.rng.sample([word for word in self.book.words("options") if word != value], self.rng.randint(1, 3))
        return self.rng.sample([value, *others], len(others) + 1)

    # -- names ----------------------------------------------------------------------------------------------------

    def _place(self) -> str:
        return self._known("places", 0.4) or self._either(0.15, self._new_place, self.invent.name)

    def _new_place(self) -> str:
        return f"{self.rng.choice(('New', 'Port', 'San'))} {self.invent.name()}"

    def _person(self) -> str:
        first = self._known("people", 0.6) or self.invent.name()
        return f"{first} {self.invent.name()}" if self.rng.random() < 0.25 else first

    def _name(self) -> str:
        return f"{self.invent.name()} {self.invent.name()}" if self.rng.random() < 0.3 else self.invent.name()

    def _word(self) -> str:
        return self.invent.word()

    def _thing(self) -> str:
        noun = self._known("things", 0.6) or self.invent.word()
        return f"{self.pick('adjectives')} {noun}" if self.rng.random() < 0.3 else noun

    def _room(self) -> str:
        return self._known("rooms", 0.7) or self.invent.word()

    def _food(self) -> str:
        return self._known("foods", 0.6) or self.invent.word()

    def _language(self) -> str:
        return self._known("languages", 0.8) or self.invent.name()

    def _state(self) -> str:
        return self.pick("states")

    def _sky(self) -> str:
        return self.pick("skies")

    def _colour(self) -> str:
        return self.pick("colours")

    def _option(self) -> str:
        return self.pick("options")

    def _currency(self) -> str:
        return self.pick("currencies")

    # -- texts ----------------------------------------------------------------------------------------------------

    def _words(self) -> str:
        return " ".join(self._plain() for _ in range(self.rng.randint(1, 5)))

    def _query(self) -> str:
        return " ".join(self._plain(0.6) for _ in range(self.rng.randint(1, 3)))

    def _title(self) -> Value:
        title = " ".join(self._plain(0.5).capitalize() for _ in range(self.rng.randint(1, 3)))
        return Value(f'"{title}"' if self.rng.random() < 0.6 else title, title)

    def _text(self) -> Value:
        text = self._words()
        if self.rng.random() < 0.4:
            text = text[:1].upper() + text[1:]
        return Value(f'"{text}"', text)

    def _plain(self, invented: float = 0.3) -> str:
        known = self.rng.choice(("plain_words", "things"))
        return self._known(known, 1 - invented) or self.invent.word()

    # -- numbers, codes, times ------------------------------------------------------------------------------------

    def _count(self) -> Value:
        number = self.rng.randint(1, 10 ** self.rng.randint(1, 3))
        numerals = self.book.words("numerals")
        in_words = number <= len(numerals) and self.rng.random() < 0.25
        return Value(numerals[number - 1] if in_words else str(number), number)

    def _number(self) -> int:
        return self.rng.randint(1, 10 ** self.rng.randint(1, 5))

    def _degrees(self) -> int:
        return self.rng.randint(1, 39)

    def _amount(self) -> float:
        return round(self.rng.uniform(1, 10 ** self.rng.randint(1, 3)), self.rng.choice((1, 1, 2)))

    def _code(self) -> str:
        return self._either(0.7, self.invent.code, lambda: f"{self.invent.word()}{self.invent.digits(1, 3)}")

    def _symbol(self) -> str:
        return self.invent.word().upper()

    def _date(self) -> Value:
        if self.rng.random() < 0.5:
            date = f"20{self.rng.randint(20, 39)}-{self.rng.randint(1, 12):02}-{self.rng.randint(1, 28):02}"
            return Value(f"on {date}", date)
        day = self.pick("days")
        return Value(day, day.removeprefix("on "))

    def _day(self) -> str:
        return str(self._date().json)

    def _time(self) -> str:
        if self.rng.random() < 0.7:
            return f"{self.rng.randint(0, 23)}:{self.rng.randint(0, 59):02}"
        return f"{self.rng.randint(1, 12)} {self.rng.choice(('am', 'pm'))}"

    def _email(self) -> str:
        user = (self._known("people", 0.4) or self.invent.word()).lower()
        return f"{user}@{self.invent.word()}.{self.pick('domains')}"

    def _file(self) -> str:
        return f"{self._known('things', 0.4) or self.invent.word()}.{self.pick('endings')}"

    def _switch(self) -> Value:
        on = self.rng.random() < 0.5
        return Value("on" if on else "off", on)

    # -- chance ---------------------------------------------------------------------------------------------------

    def _known(self, words: str, chance: float) -> str | None:
        """A word of a list, so often; else an invented one is to be found."""
        return self.pick(words) if self.rng.random() < chance else None

    def _either(self, chance: float, one: Callable[[], str], other: Callable[[], str]) -> str:
        return one() if self.rng.random() < chance else other()


#: JSON types of kinds; all others are strings.
TYPES = {"count": "integer", "number": "integer", "degrees": "integer", "amount": "number", "switch": "boolean"}
