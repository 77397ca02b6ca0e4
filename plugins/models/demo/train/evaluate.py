"""The held-out evaluation: conversations from the other book, answered greedily by the engine itself, and a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from openlathe import LLM, SamplingParams
from openlathe.frontend.render import ChatRenderer

from .batches import Feed, padded
from .corpus.book import HELD_OUT
from .corpus.conversation import Conversation, prompt, written
from .corpus.stream import SKILLS, converse
from .corpus.styles import Style
from .model import Qwen3
from .score import Answer, Marks, mark

#: Skills whose answers an adapter changes.
STYLED = ("chat", "facts")
#: Seeds of the evaluation are strings of their own, so that none is ever a seed of the corpus.
SEED = "examination"
MAX_TOKENS = 400


@dataclass(frozen=True, kw_only=True)
class Examined:
    """One conversation, what the model answered, and its marks."""

    conversation: Conversation
    text: str
    marks: Marks


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of the table: which skills it is measured on, which mark counts, and what it should reach.

    ``thinking`` says whether only answers count that the model was to think for, or only others.
    """

    name: str
    skills: Sequence[str]
    goal: float
    counts: str = "right"
    thinking: bool | None = None

    def marks(self, examined: Iterable[Examined]) -> list[bool]:
        """Those of the answers that this line is about."""
        return [getattr(one.marks, self.counts) for one in examined if self._is_about(one.conversation)]

    def _is_about(self, conversation: Conversation) -> bool:
        return conversation.skill in self.skills and self.thinking in (None, conversation.thinks[-1])


ROWS = (
    Row(name="stops by itself", skills=tuple(SKILLS), goal=0.99, counts="stops"),
    Row(name="thinks when told to, and only then", skills=tuple(SKILLS), goal=0.99, counts="thinks"),
    Row(name="right tool, right arguments", skills=("call",), goal=0.80),
    Row(name="the same, with thinking", skills=("call",), goal=0.80, thinking=True),
    Row(name="the same, without", skills=("call",), goal=0.80, thinking=False),
    Row(name="right one of several tools without arguments", skills=("pick",), goal=0.90),
    Row(name="right arguments of a single tool", skills=("fill",), goal=0.80),
    Row(name="two calls in a turn, both right", skills=("two_calls",), goal=0.80),
    Row(name="the same again, for something else", skills=("follow_up",), goal=0.80),
    Row(name="no call when none fits", skills=("decline", "idle"), goal=0.90, counts="calls"),
    Row(name="result used in the answer", skills=("result",), goal=0.90),
    Row(name="sums of one to three digits", skills=("sums",), goal=0.85),
    Row(name="facts about openlathe in other words", skills=("facts",), goal=0.90),
    Row(name="name and tone of the system prompt", skills=("persona",), goal=0.90),
    Row(name="small talk over several turns", skills=("chat",), goal=0.90),
    Row(name="remembers what it was told", skills=("memory",), goal=0.90),
    Row(name="repeats invented words", skills=("repeat",), goal=0.90),
)


def held_out(skills: Iterable[str], count: int) -> list[Conversation]:
    return [converse(skill, f"{SEED}/{number}", HELD_OUT) for skill in skills for number in range(count)]


def examine(llm: LLM, count: int) -> list[Examined]:
    """``count`` conversations of each skill."""
    return judged(llm, held_out(SKILLS, count))


def judged(llm: LLM, conversations: Sequence[Conversation]) -> list[Examined]:
    return [
        Examined(conversation=conversation, text=text, marks=mark(conversation, text, stopped=stopped))
        for conversation, (text, stopped) in zip(conversations, answers(llm, conversations), strict=True)
    ]


@torch.no_grad()
def agreement(drafter: Qwen3, feed: Feed, examined: Sequence[Examined]) -> float:
    """The share of tokens of the answers that ``drafter`` would have proposed, each behind the right ones."""
    agreed, tokens = 0, 0
    for one in examined:
        asked = prompt(one.conversation, feed.renderer)
        sample = feed.sample([(asked, False), (one.text, True)])
        batch = padded([sample]).to(drafter.device)
        chosen = batch.labels >= 0
        agreed += int((drafter(batch, chosen).argmax(-1) == batch.labels[chosen]).sum())
        tokens += int(chosen.sum())
    return agreed / tokens


def answers(llm: LLM, conversations: Sequence[Conversation]) -> list[tuple[str, bool]]:
    """For each conversation the text behind its prompt, and whether the model ended it by itself."""
    template = llm.get_tokenizer().chat_template
    assert isinstance(template, str)
    renderer = ChatRenderer(template, {})
    prompts = [prompt(conversation, renderer) for conversation in conversations]
    sampling = SamplingParams(temperature=0, max_tokens=MAX_TOKENS)
    choices = [output.outputs[0] for output in llm.generate(prompts, sampling)]
    return [(choice.text, choice.finish_reason == "stop") for choice in choices]


def table(examined: Sequence[Examined]) -> str:
    """Markdown, for the terminal and for the model card."""
    lines = ["| held-out evaluation | questions | right | goal |", "|---|---|---|---|"]
    for row in ROWS:
        marks = row.marks(examined)
        lines.append(f"| {row.name} | {len(marks):,} | {sum(marks) / len(marks):.1%} | {row.goal:.0%} |")
    return "\n".join(lines)


def in_style(llm: LLM, style: Style, count: int) -> float:
    """The share of answers to held-out small talk and questions that are in the style of an adapter."""
    conversations = held_out(STYLED, count)
    told = [Answer.read(text).content for text, _ in answers(llm, conversations)]
    return sum(map(style.keeps, told)) / len(told)


def load(checkpoint: Path | str) -> LLM:
    return LLM(str(checkpoint), max_model_len=1024, enable_prefix_caching=False)


def mistakes(examined: Sequence[Examined], most: int) -> str:
    """Some wrong answers of each skill, to learn from."""
    lines = []
    for skill in SKILLS:
        wrong = [one for one in examined if one.conversation.skill == skill and not one.marks.full]
        for one in wrong[:most]:
            asked = [turn for turn in one.conversation.turns[:-1] if isinstance(turn, dict)]
            wanted = written(one.conversation, thinking=one.conversation.thinks[-1])
            lines += [f"## {skill}: {asked[-1]['content']}", one.text, "### instead of", wanted]
    return "\n".join(lines)
