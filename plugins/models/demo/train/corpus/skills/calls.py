"""Tools in conversation: a call, two calls, no call where none fits, and what is made of results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ..conversation import Conversation, Expected, Message, Reply
from ..phrases import say, uncapitalised
from ..scene import Scene, system, user
from ..toolmaker import Toolmaker
from ..tools import Tool, Use, shown
from . import talk


def call(scene: Scene) -> Conversation:
    """One wish, one tool of several."""
    maker, box = _box(scene)
    use = maker.use(scene.rng.choice(box))
    return _amid(scene, _asked("call", box, [use], scene.casual(use.ask)))


def pick(scene: Scene) -> Conversation:
    """The easier half of it: which tool, where none has arguments."""
    return replace(call(scene), skill="pick")


def fill(scene: Scene) -> Conversation:
    """The other half: which arguments, where there is one tool."""
    return replace(call(scene), skill="fill")


def two_calls(scene: Scene) -> Conversation:
    """One tool for two things, or two tools."""
    maker, box = _box(scene)
    uses, ask = _pair(scene, maker, box)
    while len(uses) < 2:  # the same call is not made twice
        box = [*box, maker.other_than(box)]
        uses, ask = _pair(scene, maker, box)
    return _amid(scene, _asked("two_calls", box, uses, ask))


def follow_up(scene: Scene) -> Conversation:
    """The same again, for something else that is only named."""
    able: list[Tool] = []
    while not able:
        maker, box = _box(scene)
        able = [tool for tool in box if _is_simple(tool)]
    first = maker.use(scene.rng.choice(able))
    then = maker.use(first.tool)
    (value,) = then.values.values()
    again = scene.utter(maker.page["calls"]["again"], {"value": value.spoken})
    before = _answered(scene, maker, box, [first], scene.casual(first.ask))
    return _asked("follow_up", box, [then], again, before.turns)


def decline(scene: Scene) -> Conversation:
    """A wish for a tool that is not there."""
    maker, box = _box(scene)
    use = maker.use(maker.other_than(box))
    reply = Reply(thought="No tool fits.", content=scene.rng.choice(maker.page["calls"]["decline"]))
    turns: list[Message | Reply] = [user(scene.casual(use.ask)), reply]
    tools = [tool.schema for tool in box]
    return _amid(scene, Conversation(skill="decline", turns=turns, tools=tools, expected=Expected(contains=["tool"])))


def idle(scene: Scene) -> Conversation:
    """Tools are there, and the user only talks."""
    _, box = _box(scene)
    return replace(talk.word(scene), skill="idle", tools=[tool.schema for tool in box])


def result(scene: Scene) -> Conversation:
    """A call, or two, and the answer that follows from what came back."""
    maker, box = _box(scene, most=3)
    if scene.rng.random() < 0.25:
        uses, ask = _pair(scene, maker, box)
    else:
        uses = [maker.use(scene.rng.choice(box))]
        ask = scene.casual(uses[0].ask)
    return _amid(scene, _answered(scene, maker, box, uses, ask))


def _answered(scene: Scene, maker: Toolmaker, box: list[Tool], uses: list[Use], ask: str) -> Conversation:
    opening = _asked("result", box, uses, ask)
    messages, told, needed = [], [], []
    for use in uses:
        content, answer, values = _outcome(scene, maker, use)
        messages.append({"role": "tool", "content": content})
        told.append(answer)
        needed += values
    thought = "The tool says: " + "; ".join(_noted(message["content"]) for message in messages)
    turns = [*opening.turns, *messages, Reply(thought=thought, content=" ".join(told))]
    return replace(opening, turns=turns, expected=Expected(contains=needed))


def _amid(scene: Scene, conversation: Conversation) -> Conversation:
    """Sometimes behind a system prompt, sometimes in the middle of a talk."""
    before: list[Message | Reply] = []
    if scene.rng.random() < 0.15:
        plain = scene.utter(scene.book.page("personas")["plain"], noise=scene.noise.around, literal=True)
        before.append(system(plain))
    if scene.rng.random() < 0.15:
        before += talk.word(scene).turns
    return replace(conversation, turns=[*before, *conversation.turns])


def some_tools(scene: Scene, *, most: int = 4) -> list[Tool]:
    return Toolmaker(scene.values).box(scene.rng.choice((1, 1, 2, 2, 3, 4)[: most + 2]))


def plain_tools(scene: Scene) -> list[Tool]:
    maker = Toolmaker(scene.values)
    return maker.box(scene.rng.randint(2, 4), maker.plain)


def one_tool(scene: Scene) -> list[Tool]:
    return Toolmaker(scene.values).box(1)


def _box(scene: Scene, *, most: int = 4) -> tuple[Toolmaker, list[Tool]]:
    return Toolmaker(scene.values), list(scene.tools or some_tools(scene, most=most))


def _pair(scene: Scene, maker: Toolmaker, box: list[Tool]) -> tuple[list[Use], str]:
    page = maker.page["calls"]
    tool = scene.rng.choice(box)
    if _is_simple(tool) and (len(box) == 1 or scene.rng.random() < 0.6):
        return _twice(scene, maker, tool, page["twice"])
    one = maker.use(tool)
    other = maker.use(scene.rng.choice(box))
    if one.call == other.call:
        return [one], one.ask
    second = other.ask if _begins_with_value(other) else uncapitalised(other.ask)
    first = one.ask if one.ask[-1] in ".?!" else one.ask + "."
    return [one, other], scene.utter(page["both"], {"one": first, "two": second}, literal=True)


def _begins_with_value(use: Use) -> bool:
    return any(use.ask.startswith(spoken) for spoken in use.spoken.values())


def _is_simple(tool: Tool) -> bool:
    """Whether a value alone says what is wanted."""
    first = tool.arguments[0] if len(tool.arguments) == 1 else None
    return first is not None and first.required and first.kind not in ("option", "switch", "text")


def _twice(scene: Scene, maker: Toolmaker, tool: Tool, patterns: list[str]) -> tuple[list[Use], str]:
    (argument,) = tool.arguments
    first, second = scene.values.draw(argument.kind), scene.values.draw(argument.kind)
    both = scene.utter(patterns, {"a": first.spoken, "b": second.spoken}, literal=True)
    ask = maker.use(tool, first._replace(spoken=both)).ask
    values = [first] if first.json == second.json else [first, second]
    return [Use(tool=tool, ask=ask, values={argument.name: value}) for value in values], ask


def _asked(
    skill: str, box: list[Tool], uses: list[Use], ask: str, before: Sequence[Message | Reply] = ()
) -> Conversation:
    notes = [*dict.fromkeys(f"{use.tool.name} fits: {use.tool.about}" for use in uses), *map(_arguments, uses)]
    reply = Reply(thought="\n".join(notes), calls=[use.call for use in uses])
    return Conversation(
        skill=skill,
        turns=[*before, user(ask), reply],
        tools=[tool.schema for tool in box],
        expected=Expected(calls=reply.calls),
    )


def _arguments(use: Use) -> str:
    noted = ", ".join(f"{name} = {json.dumps(value.json, ensure_ascii=False)}" for name, value in use.values.items())
    return f"{use.tool.name}: {noted or 'no arguments'}"


def _outcome(scene: Scene, maker: Toolmaker, use: Use) -> tuple[str, str, list[str]]:
    """What the tool sends, what is answered, and what the answer must hold."""
    page = maker.page["calls"]
    if scene.rng.random() < 0.08:
        error = say(scene.rng, scene.rng.choice(page["errors"]), {"word": scene.values.invent.word(), "count": 30})
        answer = say(scene.rng, scene.rng.choice(page["failed"]), {"error": error})
        return json.dumps({"error": error}), answer, [error]
    found = maker.result(use.tool)
    values = [shown(value) for value in found.values()]
    return json.dumps(found, ensure_ascii=False), maker.tell(use, found), values


def _noted(content: str) -> str:
    found: dict[str, Any] = json.loads(content)
    return ", ".join(f"{field} = {shown(value)}" for field, value in found.items())
