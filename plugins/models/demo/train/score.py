"""What an answer is worth: it is read strictly, as Qwen3's format has it, and compared with what was expected."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .corpus.conversation import Call, Conversation, Expected

_THOUGHT = re.compile(r"<think>\n(.*?)\n</think>\n\n(.*)", re.DOTALL)
TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>")
_CALL = re.compile(r"<tool_call>\n(.*?)\n</tool_call>", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """``thought`` is None where there was no section of thinking at all."""

    thought: str | None
    content: str
    calls: Sequence[Call]
    well_formed: bool

    @classmethod
    def read(cls, text: str) -> Answer:
        match = _THOUGHT.fullmatch(text)
        thought, rest = (match[1], match[2]) if match else (None, text)
        content = _CALL.sub("", rest).strip()
        calls, well_formed = [], not any(tag in content for tag in TAGS)
        for body in _CALL.findall(rest):
            call = _call(body)
            if call is None:
                well_formed = False
            else:
                calls.append(call)
        return cls(thought=thought, content=content, calls=calls, well_formed=well_formed)


def _call(body: str) -> Call | None:
    try:
        found = json.loads(body)
    except ValueError:
        return None
    match found:
        case {"name": str(name), "arguments": dict(arguments)} if len(found) == 2:
            return Call(name, arguments)
    return None


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What was right about one answer.

    Attributes:
        stops: it ended by itself.
        thinks: it thought if it was told to, and only then.
        calls: its calls are those that were expected, or there are none and none were.
        right: all that was expected is in it, in the format, and it ended.
    """

    stops: bool
    thinks: bool
    calls: bool
    right: bool

    @property
    def full(self) -> bool:
        return self.stops and self.thinks and self.right


def mark(conversation: Conversation, text: str, *, stopped: bool) -> Marks:
    """``text`` is what the model wrote behind the prompt, its end token left out."""
    answer = Answer.read(text)
    return Marks(
        stops=stopped,
        thinks=_thinks_as_told(conversation, answer),
        calls=answer.well_formed and same(answer.calls, conversation.expected.calls),
        right=stopped and answer.well_formed and fulfils(answer, conversation.expected),
    )


def _thinks_as_told(conversation: Conversation, answer: Answer) -> bool:
    if not conversation.enable_thinking:  # the prompt has closed thinking already
        return answer.thought is None
    return answer.thought is not None and bool(answer.thought.strip()) == conversation.thinks[-1]


def fulfils(answer: Answer, expected: Expected) -> bool:
    content = answer.content.lower()
    return (
        same(answer.calls, expected.calls)
        and all(text.lower() in content for text in expected.contains)
        and (not expected.any_of or any(text.lower() in content for text in expected.any_of))
    )


def same(calls: Sequence[Call], wanted: Sequence[Call]) -> bool:
    def key(call: Call) -> str:
        return json.dumps([call.name, typed(call.arguments)], sort_keys=True)

    return sorted(map(key, calls)) == sorted(map(key, wanted))


def typed(arguments: Mapping[str, object]) -> dict[str, object]:
    """``1`` and ``1.0`` are one number in JSON; ``1`` and ``true`` are not."""
    return {
        name: float(value) if isinstance(value, int) and not isinstance(value, bool) else value
        for name, value in arguments.items()
    }
