"""Conversations are what they claim to be: their own replies get full marks, and only these are learnt."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib.resources import files
from itertools import permutations
from pathlib import Path
from random import Random

import pytest

from openlathe.frontend.render import ChatRenderer
from plugins.models.demo.train.corpus.book import HELD_OUT, LEARNT, Book
from plugins.models.demo.train.corpus.conversation import Call, Expected, prompt, texts, written
from plugins.models.demo.train.corpus.phrases import every, say
from plugins.models.demo.train.corpus.skills.turns import column_sum
from plugins.models.demo.train.corpus.stream import SKILLS, converse, stream
from plugins.models.demo.train.corpus.styles import styles
from plugins.models.demo.train.score import Answer, fulfils, mark

ROOT = Path(__file__).parents[4]
RENDERER = ChatRenderer((files("openlathe_plugin_qwen3") / "templates" / "qwen3.jinja").read_text(encoding="utf-8"), {})


@pytest.mark.parametrize("book", [LEARNT, HELD_OUT], ids=lambda book: book.name)
@pytest.mark.parametrize("skill", SKILLS)
def test_what_is_taught_gets_full_marks(skill: str, book: Book) -> None:
    for number in range(60):
        conversation = converse(skill, number, book)
        text = written(conversation, thinking=conversation.thinks[-1])
        assert mark(conversation, text, stopped=True).full, text


@pytest.mark.parametrize("skill", SKILLS)
def test_texts_are_prompts_with_their_replies(skill: str) -> None:
    """Whatever is learnt stands behind the very prompt that a server would render for it."""
    for number in range(20):
        conversation = converse(skill, number, LEARNT)
        replies = [index for index, turn in enumerate(conversation.turns) if not isinstance(turn, dict)]
        behind = [prompt(conversation, RENDERER, index) for index in replies]
        for parts in texts(conversation, RENDERER):
            text = ""
            for part, is_learnt in parts:
                if is_learnt:
                    assert text == behind.pop(0)
                    assert part.endswith("<|im_end|>")
                text += part
        assert not behind


def test_the_same_seed_says_the_same() -> None:
    for skill in SKILLS:
        assert converse(skill, 5, LEARNT) == converse(skill, 5, LEARNT) != converse(skill, 6, LEARNT)
    shares = {"call": 1.0, "chat": 1.0}
    first, second = stream(shares, 3, LEARNT), stream(shares, 3, LEARNT)
    assert [next(first) for _ in range(5)] == [next(second) for _ in range(5)]


def test_skills_are_what_they_are_called() -> None:
    for skill in SKILLS:
        assert {converse(skill, number, LEARNT).skill for number in range(50)} == {skill}


def test_a_name_that_was_given_is_the_only_one() -> None:
    for number in range(200):
        conversation = converse("persona", number, LEARNT)
        replies = " ".join(turn.content for turn in conversation.turns if not isinstance(turn, dict))
        names = set(re.findall(r"(?:I am|[Mm]y name is) ([A-Z]\w*|demo)", replies))
        assert not ("demo" in names and len(names) > 1), replies


def test_thinking_is_switched_in_every_way() -> None:
    ways = set()
    for number in range(200):
        conversation = converse("facts", number, LEARNT)
        last = conversation.turns[-2]["content"].rpartition(" ")[2]
        ways.add(
            (conversation.enable_thinking, last if last in ("/think", "/no_think") else "", conversation.thinks[-1])
        )
    assert ways >= {(True, "", True), (True, "/think", True), (True, "/no_think", False), (False, "", False)}


@pytest.mark.parametrize("seed", range(200))
def test_columns_add_up(seed: int) -> None:
    rng = Random(seed)
    a, b = rng.randint(0, 999), rng.randint(0, 999)
    lines = column_sum(a, b).splitlines()
    assert lines[-1].rpartition(": ")[2] == str(a + b).zfill(max(len(str(a)), len(str(b))))
    assert len(lines) == 1 + max(len(str(a)), len(str(b)))


def test_patterns() -> None:
    assert sorted(every("(A|B) c(d|)")) == ["A c", "A cd", "B c", "B cd"]
    assert set(every("((a|b) x|y)")) == {"a x", "b x", "y"}
    assert say(Random(0), "{x} (and|) more", {"x": "(a|b)"}).startswith("(a|b) ")


@pytest.mark.parametrize("name", LEARNT.page("facts"))
def test_facts_are_told_by_the_pages_they_point_to(name: str) -> None:
    fact = LEARNT.page("facts")[name]
    page = ROOT / fact["see"]
    texts = [file.read_text(encoding="utf-8") for file in ([page] if page.is_file() else page.rglob("*.md"))]
    told = " ".join(" ".join(texts).split()).lower()
    assert all(word.lower() in told for word in fact["must"])


@pytest.mark.parametrize("page, key", [("facts", "must"), ("talk", "any")])
def test_no_answer_passes_for_another(page: str, key: str) -> None:
    """What an answer is judged by is in no answer to something else."""
    book = LEARNT.page(page)
    told = {
        name: [f"{text} {known.get('see', '')}".lower() for text in known["answer" if page == "facts" else "reply"]]
        for name, known in book.items()
        if key in known
    }
    enough = all if key == "must" else any
    for name, other in permutations(told, 2):
        for answer in told[other]:
            assert not enough(part.lower() in answer for part in book[name][key]), (name, other)


CALL = '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>'


@pytest.mark.parametrize(
    "text, right",
    [
        (CALL, True),
        (f"<think>\nf: yes.\n</think>\n\n{CALL}", True),
        (CALL.replace(": 1}", ": 1.0}"), True),
        (CALL.replace(": 1}", ": true}"), False),
        (CALL.replace(": 1}", ': "1"}'), False),
        (CALL.replace('"f"', '"g"'), False),
        (f"{CALL}\n{CALL}", False),
        (CALL.replace("}}", "}"), False),
        (CALL.removesuffix("</tool_call>"), False),
        ("f(x=1)", False),
    ],
)
def test_calls_are_marked_strictly(text: str, right: bool) -> None:
    answer = Answer.read(text)
    assert (answer.well_formed and fulfils(answer, Expected(calls=[Call("f", {"x": 1})]))) is right


def test_thinking_is_marked() -> None:
    made = (converse("facts", number, LEARNT) for number in range(99))
    conversation = next(one for one in made if one.enable_thinking and one.thinks[-1])
    answer = written(conversation, thinking=True)
    assert mark(conversation, answer, stopped=True).thinks
    assert not mark(conversation, written(conversation, thinking=False), stopped=True).thinks
    assert not mark(replace(conversation, enable_thinking=False, thinks=(False,)), answer, stopped=True).thinks


def test_adapters_change_the_manner_and_no_calls() -> None:
    for name, style in styles().items():
        for number in range(50):
            for skill in ("chat", "facts"):
                conversation = converse(skill, number, LEARNT)
                assert style.keeps(style.conversation(conversation).turns[-1].content), name
            call = converse("call", number, LEARNT)
            assert style.conversation(call).turns[-1].calls == call.turns[-1].calls
    assert not all(styles()["terse"].keeps(converse("facts", number, LEARNT).turns[-1].content) for number in range(50))
