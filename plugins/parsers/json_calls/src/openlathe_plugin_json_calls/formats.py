"""Tool-call formats that write a call as one JSON object between markers. Each is a description; the code is core's."""

from __future__ import annotations

from dataclasses import dataclass

from openlathe.parsing import CallFormat, JsonCall
from openlathe.spi import ParserContext


@dataclass(frozen=True, kw_only=True)
class JsonCallFormat(CallFormat):
    """Markers, and the keys of the object under which the function's name and its arguments are found."""

    names: tuple[str, ...] = ("name",)
    arguments: tuple[str, ...] = ("arguments", "parameters")

    def body(self, context: ParserContext) -> JsonCall:
        return JsonCall(self.names, self.arguments)


#: Hermes 2 Pro and 3, Qwen 2.5 and 3: ``<tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>``, repeated.
HERMES = JsonCallFormat(open=("<tool_call>",), close=("</tool_call>",))
