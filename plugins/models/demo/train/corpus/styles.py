"""Answers in the manner of an adapter."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from .book import ROOT
from .conversation import Conversation, Reply

#: Where one sentence ends and another begins.
BETWEEN = re.compile(r"(?<=[.!?]) (?=[A-Z])")


@dataclass(frozen=True, kw_only=True)
class Style:
    """``mark`` begins an answer, ``words`` replaces whole words, ``sentences`` is how many stay; 0: all."""

    mark: str = ""
    sentences: int = 0
    words: Mapping[str, str] = field(default_factory=dict)

    def conversation(self, conversation: Conversation) -> Conversation:
        turns = [self._reply(turn) if isinstance(turn, Reply) else turn for turn in conversation.turns]
        return replace(conversation, turns=turns)

    def keeps(self, answer: str) -> bool:
        """Whether an answer is in this style, as far as that can be told without knowing the plain one."""
        found = len(BETWEEN.split(answer)) if answer else 0
        plain = self.words.keys() & set(re.findall(r"\w+", answer))
        return answer.startswith(self.mark) and not plain and 0 < found <= (self.sentences or found)

    def _reply(self, reply: Reply) -> Reply:
        return replace(reply, content=self._text(reply.content)) if reply.content else reply

    def _text(self, text: str) -> str:
        if self.sentences:
            text = " ".join(BETWEEN.split(text)[: self.sentences])
        if self.words:
            text = re.sub(r"\b\w+\b", lambda match: self.words.get(match[0], match[0]), text)
        return f"{self.mark} {text}".strip()


PLAIN = Style()


@cache
def styles() -> Mapping[str, Style]:
    entries = tomllib.loads((ROOT / "books" / "styles.toml").read_text(encoding="utf-8"))
    return {name: Style(**entry) for name, entry in entries.items()}
