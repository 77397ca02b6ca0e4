"""Conversations without tools: small talk over several turns, facts, sums, system prompts with name and tone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..book import LEARNT
from ..conversation import Conversation, Expected, Message, Reply
from ..scene import Scene, system, user
from . import turns
from .turns import Turn


def chat(scene: Scene) -> Conversation:
    """Greetings, thanks, questions about me, among them facts and sums."""
    count = scene.rng.choice((1, 1, 2, 3, 4))
    return _conversation("chat", [_any(scene, first=index == 0) for index in range(count)])


def word(scene: Scene) -> Conversation:
    """A single turn that no tool could be wanted for."""
    while (turn := _any(scene, first=True)).intent == "unknown":
        pass
    return _conversation("chat", [turn])


def memory(scene: Scene) -> Conversation:
    """The user tells something and asks for it later."""
    if scene.rng.random() < 0.5:
        told, asked, slots = "tell_name", "ask_name", {"name": scene.values.draw("person").spoken}
    else:
        told, asked, slots = "tell_favourite", "ask_favourite", turns.favourite(scene)
    between = [_any(scene) for _ in range(scene.rng.choice((0, 0, 1, 2)))]
    return _conversation("memory", [turns.talk(scene, told, **slots), *between, turns.talk(scene, asked, **slots)])


def repeat(scene: Scene) -> Conversation:
    """Words to say again: copying and nothing else."""
    return _conversation("repeat", [turns.talk(scene, "repeat")])


def facts(scene: Scene) -> Conversation:
    before = [turns.talk(scene, "greet")] if scene.rng.random() < 0.2 else []
    asked = [turns.fact(scene) for _ in range(scene.rng.choice((1, 1, 2)))]
    return _conversation("facts", [*before, *asked])


def sums(scene: Scene) -> Conversation:
    """A sum; sometimes one more number on top of it."""
    first = turns.sum_of(scene)
    if scene.rng.random() < 0.8:
        return _conversation("sums", [first])
    total = int(first.reply.content.rstrip(".").rpartition(" ")[2])
    return _conversation("sums", [first, turns.sum_of(scene, left=total)])


def persona(scene: Scene) -> Conversation:
    """A system prompt: a name, a tone, both or neither; the evaluation always asks for what was set."""
    examined = scene.book.held_out
    page, tones = scene.book.page("personas"), LEARNT.page("personas")["tones"]
    kind = scene.rng.choice(
        ("system", "named", "toned") if examined else ("system", "system", "named", "toned", "plain")
    )
    name = scene.values.draw("name" if scene.rng.random() < 0.6 else "person").spoken
    tone = scene.rng.choice(list(tones))
    slots = {"name": name, "tone": tone, "role": scene.rng.choice(page["roles"])}
    prompt = scene.utter(page[kind], slots, noise=scene.noise.around, literal=True)
    asked = [_any(scene, first=index == 0) for index in range(scene.rng.choice((0, 0, 1, 2)))]
    asked.insert(len(asked) if examined else scene.rng.randint(0, len(asked)), turns.talk(scene, "who"))
    if kind in ("system", "named"):
        asked = [_as_person(scene, turn, name) if turn.intent == "who" else turn for turn in asked]
    if kind in ("system", "toned"):
        asked = [_in_tone(turn, tones[tone]) for turn in asked]
    made = _conversation("persona", asked)
    return replace(made, turns=[system(prompt), *made.turns])


def _any(scene: Scene, *, first: bool = False) -> Turn:
    makers: Sequence[tuple[float, Callable[[], Turn]]] = (
        (0.35 if first else 0.0, lambda: turns.talk(scene, "greet")),
        (0.55, lambda: turns.talk(scene, scene.rng.choice(turns.SMALL_TALK))),
        (0.2, lambda: turns.fact(scene)),
        (0.15, lambda: turns.sum_of(scene)),
    )
    (make,) = scene.rng.choices([maker for _, maker in makers], [weight for weight, _ in makers])
    return make()


def _as_person(scene: Scene, turn: Turn, name: str) -> Turn:
    page = LEARNT.page("personas")
    reply = Reply(thought=scene.say(page["think_named"], name=name), content=scene.say(page["who"], name=name))
    return replace(turn, reply=reply, expected=Expected(contains=[name]))


def _in_tone(turn: Turn, mark: str) -> Turn:
    reply = replace(turn.reply, content=f"{mark} {turn.reply.content}")
    return replace(turn, reply=reply, expected=replace(turn.expected, contains=[mark, *turn.expected.contains]))


def _conversation(skill: str, asked: Sequence[Turn]) -> Conversation:
    said: list[Message | Reply] = []
    for turn in asked:
        said += [user(turn.ask), turn.reply]
    return Conversation(skill=skill, turns=said, expected=asked[-1].expected)
