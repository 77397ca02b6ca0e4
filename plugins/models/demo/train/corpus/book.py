"""Sentences and words that conversations are made of: a book to learn from, and one to be examined with."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


class Book:
    """The files of ``books/<name>``, those of a folder joined, and the words of ``words/<name>``, by name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.held_out = name == "held_out"

    def page(self, name: str) -> dict[str, Any]:
        return self._pages[name]

    def words(self, name: str) -> list[str]:
        return self._words[name]

    def all_words(self) -> Iterator[str]:
        return chain.from_iterable(words for name, words in self._words.items() if name != "arguments")

    @property
    def arguments(self) -> Mapping[str, list[str]]:
        """Names of arguments by the kind of their value."""
        return self._words["arguments"]

    @cached_property
    def _pages(self) -> Mapping[str, dict[str, Any]]:
        root = ROOT / "books" / self.name
        pages: dict[str, dict[str, Any]] = {}
        for file in sorted(root.rglob("*.toml")):
            page, *_ = file.relative_to(root).with_suffix("").parts
            for name, entry in tomllib.loads(file.read_text(encoding="utf-8")).items():
                known = pages.setdefault(page, {})
                known[name] = known[name] + entry if name in known else entry
        return pages

    @cached_property
    def _words(self) -> Mapping[str, Any]:
        lists = tomllib.loads((ROOT / "words" / f"{self.name}.toml").read_text(encoding="utf-8"))
        return {name: words.split() if isinstance(words, str) else words for name, words in lists.items()}


LEARNT, HELD_OUT = Book("learnt"), Book("held_out")
