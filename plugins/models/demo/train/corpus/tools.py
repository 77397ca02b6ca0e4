"""Tools, wishes for them and the calls that fulfil these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .conversation import Call
from .values import Value


@dataclass(frozen=True, kw_only=True)
class Argument:
    """``chosen`` is the value that is asked for, where the schema lists those allowed."""

    name: str
    kind: str
    schema: Mapping[str, Any]
    required: bool = True
    chosen: Value | None = None


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A tool and how to speak of it.

    Attributes:
        family: tools of one family do the same under other names.
        action: verb and noun, for invented tools, by their slot's name.
        ask: patterns with a slot for each argument; for invented tools ``{pairs}``, ``{phrases}`` or ``{value}``.
        result: kind of value by field.
        answer: patterns over arguments and fields; none: fields are told one by one.
        closed: the schema says that there are no further arguments.
    """

    name: str
    family: str
    about: str
    arguments: Sequence[Argument]
    ask: Sequence[str]
    action: Mapping[str, str]
    result: Mapping[str, str]
    answer: Sequence[str]
    closed: bool = False

    @property
    def schema(self) -> dict[str, Any]:
        """As a client sends it."""
        parameters = {
            "type": "object",
            "properties": {argument.name: argument.schema for argument in self.arguments},
            "required": [argument.name for argument in self.arguments if argument.required],
            **({"additionalProperties": False} if self.closed else {}),
        }
        function = {"name": self.name, "description": self.about, "parameters": parameters}
        return {"type": "function", "function": function}


@dataclass(frozen=True, kw_only=True)
class Use:
    """A wish and the call that fulfils it."""

    tool: Tool
    ask: str
    values: Mapping[str, Value]

    @property
    def call(self) -> Call:
        return Call(self.tool.name, {name: value.json for name, value in self.values.items()})

    @property
    def spoken(self) -> dict[str, str]:
        return {name: value.spoken for name, value in self.values.items()}


def shown(value: Any) -> str:
    """A value of JSON as a sentence has it."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)
