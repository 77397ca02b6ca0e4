"""What every skill makes: a conversation, what its last answer is judged by, and the text it is learnt from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Message = dict[str, Any]

END = "<|im_end|>"
NO_THOUGHT = "<think>\n\n</think>\n\n"


@dataclass(frozen=True)
class Call:
    """A tool's name and its arguments."""

    name: str
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        body = json.dumps({"name": self.name, "arguments": self.arguments}, ensure_ascii=False)
        return f"<tool_call>\n{body}\n</tool_call>"


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer of the assistant; ``thought`` is left out of it where thinking is switched off.

    ``working`` is what then has to stand before the content, because the answer cannot be found without it.
    """

    thought: str
    content: str = ""
    calls: Sequence[Call] = ()
    working: str = ""

    def text(self, *, thinking: bool) -> str:
        """As the model writes it, without its end token."""
        parts = filter(None, (self.content, *map(str, self.calls)))
        return (f"<think>\n{self.thought}\n</think>\n\n" if thinking else NO_THOUGHT) + "\n".join(parts)

    def message(self, *, thinking: bool) -> Message:
        """As a client sends it back; ids of calls mean nothing in Qwen3's format."""
        calls = [
            {"id": str(index), "type": "function", "function": {"name": call.name, "arguments": dict(call.arguments)}}
            for index, call in enumerate(self.calls)
        ]
        thought = {"reasoning_content": self.thought} if thinking else {}
        return {"role": "assistant", "content": self.content, **thought, **({"tool_calls": calls} if calls else {})}


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the evaluation asks of the last answer; what is empty does not matter, but for calls.

    Attributes:
        calls: exactly these calls, in any order.
        contains: each of these in the content, whatever the case of its letters.
        any_of: at least one of these, where there are any.
    """

    calls: Sequence[Call] = ()
    contains: Sequence[str] = ()
    any_of: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """Messages and replies in turn, ending with a reply.

    Attributes:
        turns: messages as clients send them (dicts), and replies.
        tools: schemas as clients send them.
        enable_thinking: the template's argument; False closes thinking before the model begins.
        thinks: for each reply whether it thinks, which the switches in the messages decide.
        forgets: whether the client sends replies back without what was thought, as many do.
    """

    skill: str
    turns: Sequence[Message | Reply]
    expected: Expected
    tools: Sequence[Mapping[str, Any]] = ()
    enable_thinking: bool = True
    thinks: Sequence[bool] = ()
    forgets: bool = False

    def messages(self, turns: Sequence[Message | Reply]) -> list[Message]:
        """As a client sends them."""
        thinks = iter(self.thinks)
        return [
            turn.message(thinking=next(thinks) and not self.forgets) if isinstance(turn, Reply) else turn
            for turn in turns
        ]

    @property
    def template_kwargs(self) -> dict[str, Any]:
        return {} if self.enable_thinking else {"enable_thinking": False}


class Renderer(Protocol):
    """openlathe's ``ChatRenderer``, as far as it is used here."""

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> str: ...


#: A text in parts; the model learns to write those marked true.
Parts = list[tuple[str, bool]]


def texts(conversation: Conversation, renderer: Renderer) -> Iterator[Parts]:
    """What a conversation teaches: each reply behind the very prompt it would be asked for with.

    Templates drop the thinking of earlier turns. Where the prompt of a reply still begins with all that came before,
    the two are one text; otherwise the reply begins a text of its own.
    """
    parts: Parts = []
    replies = [index for index, turn in enumerate(conversation.turns) if isinstance(turn, Reply)]
    for index, thinking in zip(replies, conversation.thinks, strict=True):
        asked = prompt(conversation, renderer, index)
        before = "".join(text for text, _ in parts)
        if parts and not asked.startswith(before):
            yield parts
            parts, before = [], ""
        parts += [(asked[len(before) :], False), (written(conversation, index, thinking=thinking) + END, True)]
    yield parts


def prompt(conversation: Conversation, renderer: Renderer, index: int = -1) -> str:
    """What the reply at ``index`` answers to."""
    return renderer.render(
        conversation.messages(conversation.turns[:index]),
        tools=conversation.tools,
        template_kwargs=conversation.template_kwargs,
    )


def written(conversation: Conversation, index: int = -1, *, thinking: bool) -> str:
    """The reply at ``index`` as the model writes it behind its prompt, which may have closed thinking already."""
    reply = conversation.turns[index]
    assert isinstance(reply, Reply)
    text = reply.text(thinking=thinking)
    return text if conversation.enable_thinking else text.removeprefix(NO_THOUGHT)
