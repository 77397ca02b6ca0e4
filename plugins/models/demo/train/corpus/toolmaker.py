"""Makes tools: some that people have, most with names nobody has seen, so that schemas must be read and copied from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .book import LEARNT
from .phrases import fill, say, slots_of
from .tools import Argument, Tool, Use, shown
from .values import Value, Values

#: The share of tools that people do not have.
INVENTED = 0.45
#: How wishes for invented tools are made: each argument with its name, a value alone, in phrases that say no names, or
#: without any argument.
MANNERS = {"ask": 0.35, "bare": 0.15, "free": 0.4, "plain": 0.1}
#: Kinds of value that arguments and results with invented names have.
ARGUMENT_KINDS = ("word", "code", "count", "name", "place", "title")
RESULT_KINDS = ("state", "code", "count", "amount", "word", "time", "name", "words")


class Toolmaker:
    """Draws tools, wishes and results from a book."""

    def __init__(self, values: Values) -> None:
        self.values, self.rng, self.book = values, values.rng, values.book
        self.page = self.book.page("invented")

    def tool(self) -> Tool:
        return self._invented() if self.rng.random() < INVENTED else self._known()

    def plain(self) -> Tool:
        """One without arguments."""
        return self._invented("plain")

    def box(self, count: int, draw: Callable[[], Tool] | None = None) -> list[Tool]:
        """So many tools, each of another family."""
        box: list[Tool] = []
        while len(box) < count:
            box.append(self.other_than(box, draw))
        return box

    def other_than(self, box: Collection[Tool], draw: Callable[[], Tool] | None = None) -> Tool:
        """A tool of a family that ``box`` does not have."""
        families = {tool.family for tool in box}
        while (tool := (draw or self.tool)()).family in families:
            pass
        return tool

    def use(self, tool: Tool, given: Value | None = None) -> Use:
        """A wish; ``given`` is the value of a single argument. What may be left out is, unless the wish can name it."""
        pattern = self.rng.choice(tool.ask)
        named = [
            argument
            for argument in tool.arguments
            if argument.required or ("{pairs}" in pattern and self.rng.random() < 0.5)
        ]
        values = {argument.name: given or argument.chosen or self.values.draw(argument.kind) for argument in named}
        slots = {name: value.spoken for name, value in values.items()}
        if "{pairs}" in pattern:
            slots["pairs"] = self._pairs(values)
        elif "{phrases}" in pattern:
            slots["phrases"] = self._phrases(tool, values)
        elif "{value}" in pattern and "value" not in slots:
            (slots["value"],) = slots.values()
        return Use(tool=tool, ask=say(self.rng, pattern, {**slots, **tool.action}), values=values)

    def result(self, tool: Tool) -> dict[str, Any]:
        return {field: self.values.draw(kind).json for field, kind in tool.result.items()}

    def tell(self, use: Use, result: Mapping[str, Any]) -> str:
        """The answer that a result gives to a wish."""
        if use.tool.answer:
            return say(self.rng, self.rng.choice(use.tool.answer), {**use.spoken, **result})
        pattern = self.rng.choice(self.page["tell"])
        told = [
            say(self.rng, pattern, {"field": field.replace("_", " "), "value": shown(value)})
            for field, value in result.items()
        ]
        told[1:] = [text[0].lower() + text[1:] if text.startswith(("The ", "Its ")) else text for text in told[1:]]
        return self._joined(told, self.page["tell_join"]) + "."

    # -- tools that people have -----------------------------------------------------------------------------------

    def _known(self) -> Tool:
        entry = self.rng.choice(self.book.page("toolbox")["tool"])
        names = self._renamed(entry["arguments"], taken=entry["result"])
        own_fields = bool(entry["answer"]) and self.rng.random() < 0.7
        return Tool(
            name=self._varied(self.rng.choice(entry["names"])),
            family=entry.get("family", entry["names"][0]),
            about=self.rng.choice(entry["about"]),
            arguments=self._with_optional(
                [self._argument(names[name], kind, {}) for name, kind in entry["arguments"].items()]
            ),
            ask=[_rename(pattern, names) for pattern in entry["ask"]],
            action={},
            result=entry["result"] if own_fields or self.book.held_out else self._fields(),
            answer=[_rename(pattern, names) for pattern in entry["answer"]] if own_fields else [],
            closed=self.rng.random() < 0.1,
        )

    def _varied(self, name: str) -> str:
        """Names of functions are to be copied, not known."""
        if self.rng.random() < 0.1:
            name = f"{self.values.invent.word()}_{name}"
        if self.rng.random() < 0.1:
            first, *rest = name.split("_")
            name = first + "".join(part.capitalize() for part in rest)
        return name

    def _renamed(self, arguments: Mapping[str, str], taken: Collection[str]) -> dict[str, str]:
        """Arguments sometimes have another name, where their kind alone says what they are."""
        kinds = list(arguments.values())
        renamed = {}
        for name, kind in arguments.items():
            others = [other for other in self.book.arguments.get(kind, ()) if other not in {*arguments, *taken}]
            rename = others and kind != "count" and kinds.count(kind) == 1 and self.rng.random() < 0.2
            renamed[name] = self.rng.choice(others) if rename else name
        return renamed if len({*renamed.values()}) == len(renamed) else {name: name for name in arguments}

    # -- invented ones --------------------------------------------------------------------------------------------

    def _invented(self, manner: str = "") -> Tool:
        rng, values = self.rng, self.values
        verb = values.pick("verbs") if rng.random() < 0.85 else values.invent.word()
        noun = values.pick("things") if rng.random() < 0.65 else values.invent.word()
        action = {"verb": verb, "Verb": verb.capitalize(), "noun": noun, "Noun": noun.capitalize()}
        if not manner:
            (manner,) = rng.choices(list(MANNERS), list(MANNERS.values()))
        count = {"bare": 1, "plain": 0}.get(manner, rng.choice((1, 2, 2, 3)))
        kinds = self._telling(count) if manner == "free" else self._arguments(count)
        arguments = [self._argument(name, kind, action) for name, kind in kinds.items()]
        return Tool(
            name=fill(rng.choice(self.page["names"]), action),
            family=f"{verb} {noun}",
            about=say(rng, rng.choice(self.page["about"]), action),
            arguments=self._with_optional(arguments) if manner == "ask" else arguments,
            ask=self.page[manner],
            action=action,
            result=self._fields(),
            answer=[],
            closed=rng.random() < 0.1,
        )

    def _arguments(self, count: int) -> dict[str, str]:
        """Names of arguments and the kinds of their values, for wishes that say the names."""
        known = self.book.arguments
        found: dict[str, str] = {}
        while len(found) < count:
            if self.rng.random() < 0.1:
                found[self.values.invent.word()] = self.rng.choice(ARGUMENT_KINDS)
            else:
                kind = self.rng.choice(list(known))
                found[self.rng.choice(known[kind])] = kind
        return found

    def _telling(self, count: int) -> dict[str, str]:
        """Names that say what their values are, one of a kind, for wishes that do not say the names."""
        kinds = self.rng.sample(list(self.page["phrases"]), count)
        return {self.rng.choice(self.book.arguments[kind]): kind for kind in kinds}

    def _with_optional(self, arguments: list[Argument]) -> list[Argument]:
        """Sometimes with one more, which may be left out."""
        if self.rng.random() > 0.1:
            return arguments
        (name, kind), *_ = self._arguments(1).items()
        if name in {argument.name for argument in arguments}:
            return arguments
        return [*arguments, replace(self._argument(name, kind, {}), required=False)]

    def _argument(self, name: str, kind: str, action: Mapping[str, str]) -> Argument:
        chosen, options = None, None
        if kind == "option":
            chosen = self.values.draw(kind)
            options = self.values.options(chosen.spoken)
        schema = self.values.schema(kind, options)
        if self.rng.random() < self.page["described"]:
            schema = {**schema, "description": self._description(name, kind, action)}
        return Argument(name=name, kind=kind, schema=schema, chosen=chosen)

    def _description(self, name: str, kind: str, action: Mapping[str, str]) -> str:
        """By the name of an argument, or by what its values are."""
        called = say(self.rng, LEARNT.page("invented")["kinds"].get(kind, kind))
        words = {"verb": "use", "noun": "request", **action, "name": name.replace("_", " "), "kind": called}
        about = say(self.rng, self.rng.choice(self.page["argument_about"]), words)
        return about[0].upper() + about[1:]

    def _fields(self) -> dict[str, str]:
        """Names of results and the kinds of their values."""
        return {self._field(): self.rng.choice(RESULT_KINDS) for _ in range(self.rng.choice((1, 2, 2)))}

    def _field(self) -> str:
        return self.values.pick("fields") if self.rng.random() < 0.7 else self.values.invent.word()

    def _pairs(self, values: Mapping[str, Value]) -> str:
        pattern = self.rng.choice(self.page["pair"])
        return self._joined(self._said(dict.fromkeys(values, pattern), values), self.page["join"])

    def _phrases(self, tool: Tool, values: Mapping[str, Value]) -> str:
        kinds = {argument.name: argument.kind for argument in tool.arguments}
        patterns = {name: self.rng.choice(self.page["phrases"][kinds[name]]) for name in values}
        return " ".join(self._said(patterns, values))

    def _said(self, patterns: Mapping[str, str], values: Mapping[str, Value]) -> list[str]:
        """Arguments by their patterns; sentences do not always keep the order of the schema."""
        said = [
            say(self.rng, pattern, {"name": name.replace("_", " "), "value": values[name].spoken})
            for name, pattern in patterns.items()
        ]
        return self.rng.sample(said, len(said)) if self.rng.random() < 0.3 else said

    def _joined(self, parts: Sequence[str], joins: Sequence[str]) -> str:
        text, *rest = parts
        for part in rest:
            text = fill(self.rng.choice(joins), {"one": text, "two": part})
        return text


def _rename(pattern: str, names: Mapping[str, str]) -> str:
    """``pattern`` with its slots under other names."""
    return fill(pattern, {slot: f"{{{names.get(slot, slot)}}}" for slot in slots_of(pattern)})
