"""Thinking on and off, in the three ways Qwen3 knows: the template's argument, and two switches in messages."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from .conversation import Conversation, Message, Reply

#: How often a conversation says nothing about thinking, closes it by the template, or switches it in messages.
WAYS = {"silent": 0.5, "closed": 0.2, "spoken": 0.3}
#: How often a client sends no thoughts back.
FORGETS = 0.4


def switched(conversation: Conversation, rng: Random) -> Conversation:
    """The conversation with thinking as chance decides; without thinking, sums show their working in the answer."""
    (way,) = rng.choices(list(WAYS), list(WAYS.values()))
    thinking = way != "closed"
    turns: list[Message | Reply] = []
    thinks: list[bool] = []
    for turn in conversation.turns:
        if isinstance(turn, Reply):
            thinks.append(thinking)
            turns.append(turn if thinking else _worked(turn))
        elif way == "spoken" and turn["role"] in ("user", "system") and rng.random() < 0.7:
            thinking = rng.random() < 0.4
            turns.append({**turn, "content": f"{turn['content']} /{'think' if thinking else 'no_think'}"})
        else:
            turns.append(turn)
    forgets = rng.random() < FORGETS
    return replace(conversation, turns=turns, thinks=thinks, enable_thinking=way != "closed", forgets=forgets)


def _worked(reply: Reply) -> Reply:
    return replace(reply, content=f"{reply.working}\n{reply.content}") if reply.working else reply
