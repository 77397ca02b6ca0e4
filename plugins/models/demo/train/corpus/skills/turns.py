"""One question and its answer, by what it is about; conversations are made of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from zlib import crc32

from ..book import LEARNT
from ..conversation import Expected, Reply
from ..scene import Scene

#: Intents of talk.toml that stand by themselves.
SMALL_TALK = ("greet", "how", "thanks", "bye", "who", "can", "made", "unknown", "joke", "repeat")


@dataclass(frozen=True, kw_only=True)
class Turn:
    """``intent`` is the name in talk.toml, for small talk."""

    ask: str
    reply: Reply
    expected: Expected
    intent: str = ""


def talk(scene: Scene, intent: str, **slots: str) -> Turn:
    """Small talk; slots that are not given are drawn."""
    known = LEARNT.page("talk")[intent]
    slots = {**_slots(scene, intent), **slots}
    reply = Reply(thought=scene.say(known["think"], **slots), content=scene.say(known["reply"], **slots))
    contains = [slots[name] for name in ("name", "value", "text") if name in slots and intent != "tell_name"]
    expected = Expected(contains=contains, any_of=known.get("any", ()))
    patterns = scene.book.page("talk")[intent]["say"]
    if intent == "repeat":
        ask = scene.utter(patterns, slots, noise=scene.noise.before, literal=True)
    else:
        ask = scene.utter(patterns, slots, noise=scene.noise.around)
    return Turn(ask=ask, reply=reply, expected=expected, intent=intent)


def favourite(scene: Scene) -> dict[str, str]:
    kind = scene.rng.choice(("colour", "animal", "food", "city", "word", "number"))
    drawn = {
        "colour": lambda: scene.values.pick("colours"),
        "animal": lambda: scene.values.pick("animals"),
        "food": lambda: scene.values.pick("foods"),
        "city": lambda: scene.values.draw("place").spoken,
        "word": scene.values.invent.word,
        "number": lambda: scene.values.draw("count").spoken,
    }
    return {"kind": kind, "value": drawn[kind]()}


def _slots(scene: Scene, intent: str) -> dict[str, str]:
    values = scene.values
    if intent == "unknown":
        return {
            "thing": f"{scene.rng.choice(('the', 'a', 'this'))} {values.draw('thing').spoken}",
            "things": f"{values.pick('adjectives')} {values.draw('thing').spoken}s",
            "place": values.draw("place").spoken,
            "verb": values.pick("verbs"),
            "word": values.invent.word(),
        }
    if intent == "repeat":
        return {"text": " ".join(values.draw("query").spoken for _ in range(scene.rng.randint(1, 3)))}
    return {}


def fact(scene: Scene) -> Turn:
    """A question about openlathe."""
    asked: Mapping[str, Mapping[str, list[str]]] = scene.book.page("facts")
    name = scene.rng.choice(list(asked))
    known = LEARNT.page("facts")[name]
    content = f"{scene.rng.choice(known['answer'])} More is in {known['see']}."
    reply = Reply(thought=f"The user asks about {known['topic']}.", content=content)
    return Turn(
        ask=scene.utter(asked[name]["ask"], noise=scene.noise.around),
        reply=reply,
        expected=Expected(contains=known["must"]),
    )


def sum_of(scene: Scene, left: int | None = None) -> Turn:
    """A sum; with ``left``, one that goes on from an earlier result."""
    page = scene.book.page("sums")
    a, b = _numbers(scene, left)
    people = {"name": scene.values.draw("person").spoken, "friend": scene.values.draw("person").spoken}
    things = scene.values.pick("things") + "s"
    slots = {"a": a, "b": b, "things": things, **people}
    ask = scene.utter(page["ask" if left is None else "again"], slots)
    answer = scene.say(page["answer"], a=a, b=b, sum=a + b)
    working = column_sum(a, b)
    reply = Reply(thought=working, content=answer, working=working)
    return Turn(ask=ask, reply=reply, expected=Expected(contains=[f"= {a + b}."]))


def _numbers(scene: Scene, left: int | None) -> tuple[int, int]:
    """Two numbers of which no sum is both learnt and asked for in the evaluation."""
    while True:
        a, b = _number(scene) if left is None else left, _number(scene)
        if (crc32(f"{a}+{b}".encode()) % 8 == 0) == scene.book.held_out:
            return a, b


def _number(scene: Scene) -> int:
    """Of one to three digits, each as likely."""
    digits = scene.rng.randint(1, 3)
    return scene.rng.randint(10 ** (digits - 1) if digits > 1 else 0, 10**digits - 1)


def column_sum(a: int, b: int) -> str:
    """Addition on paper: columns from the right, each with its carry and the result so far."""
    width = max(len(str(a)), len(str(b)))
    first, second = str(a).zfill(width), str(b).zfill(width)
    lines, carry, written = [f"{first} + {second}"], 0, ""
    for place, (x, y) in enumerate(zip(reversed(first), reversed(second), strict=True), start=1):
        column = int(x) + int(y) + carry
        line = f"{x} + {y} + {carry} = {column}: "
        carry, digit = divmod(column, 10)
        last = place == width
        written = f"{column if last else digit}{written}"
        lines.append(line + written + ("" if last else f", carry {carry}"))
    return "\n".join(lines)
