"""Nothing of the evaluation is in the corpus: no sentence, no tool, no name, no invented word."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, islice
from random import Random

import pytest

from plugins.models.demo.train.corpus.book import HELD_OUT, LEARNT, Book
from plugins.models.demo.train.corpus.conversation import Conversation, Reply
from plugins.models.demo.train.corpus.invention import Inventor, words
from plugins.models.demo.train.corpus.phrases import every
from plugins.models.demo.train.corpus.stream import SKILLS, converse, stream
from plugins.models.demo.train.recipe import Recipe

#: Patterns that users are made to say, by their name.
ASKED = ("ask", "again", "say", "system", "named", "toned", "plain", "bare", "free", "pair", "twice", "both", "phrases")
SLOT = re.compile(r"\{\w+\}")


def patterns(book: Book, page: str) -> Iterator[str]:
    """All sentences of a page that users say, slots blank, without what does not make a sentence another one."""

    def walk(entry: object, name: str) -> Iterator[str]:
        if isinstance(entry, dict):
            for key, value in entry.items():
                yield from walk(value, "phrases" if name == "phrases" else key)
        elif isinstance(entry, list) and entry and isinstance(entry[0], dict):
            for value in entry:
                yield from walk(value, name)
        elif isinstance(entry, list) and name in ASKED:
            for pattern in entry:
                yield from (plain(sentence) for sentence in every(pattern))

    yield from walk(book.page(page), page)


def plain(sentence: str) -> str:
    words = re.findall(r"[\w'*+/=-]+|\{\}", SLOT.sub("{}", sentence.lower()))
    return " ".join(words)


@pytest.mark.parametrize("page", ["talk", "facts", "sums", "personas", "toolbox", "invented"])
def test_no_sentence_pattern_is_in_both_books(page: str) -> None:
    learnt, held_out = set(patterns(LEARNT, page)), set(patterns(HELD_OUT, page))
    assert held_out
    assert not learnt & held_out


@pytest.mark.parametrize("part", ["names", "arguments"])
def test_no_tool_is_in_both_books(part: str) -> None:
    def told(book: Book) -> set[str]:
        return {name for tool in book.page("toolbox")["tool"] for name in tool[part]}

    assert not told(LEARNT) & told(HELD_OUT)


def test_no_word_is_in_both_books() -> None:
    """Whatever list it is in; numerals are what they are."""

    def told(book: Book) -> set[str]:
        arguments = {name for names in book.arguments.values() for name in names}
        arguments |= {name for tool in book.page("toolbox")["tool"] for name in tool["arguments"]}
        return {*words(book), *arguments} - set(book.words("numerals"))

    assert not told(LEARNT) & told(HELD_OUT)


def test_invented_words_are_parted() -> None:
    def drawn(book: Book) -> set[str]:
        inventor = Inventor(Random(1), held_out=book.held_out)
        return {inventor.word() for _ in range(3000)}

    assert not drawn(LEARNT) & drawn(HELD_OUT)


def asked(conversation: Conversation) -> Iterator[str]:
    for turn in conversation.turns:
        if not isinstance(turn, Reply) and turn["role"] in ("user", "system"):
            yield turn["content"].removesuffix(" /think").removesuffix(" /no_think")


def test_no_message_of_the_evaluation_is_in_the_corpus() -> None:
    examined = {
        plain(text)
        for skill in SKILLS
        for number in range(100)
        for text in asked(converse(skill, f"examination/{number}", HELD_OUT))
    }
    recipe = Recipe.read()
    corpus = chain.from_iterable(stream(recipe.shares_at(1.0), 1, LEARNT))
    learnt = {plain(text) for made in islice(corpus, 5000) for text in asked(made)}
    assert not examined & learnt


def test_called_tools_of_the_evaluation_are_not_in_the_corpus() -> None:
    def names(book: Book, count: int) -> set[str]:
        made = (converse(skill, number, book) for skill in ("call", "two_calls", "result") for number in range(count))
        return {tool["function"]["name"] for conversation in made for tool in conversation.tools}

    assert not names(HELD_OUT, 100) & names(LEARNT, 1000)
