"""The formats this package brings."""

from collections.abc import Iterator

from openlathe.spi import ToolParserSpec, hookimpl


@hookimpl
def openlathe_tool_parsers() -> Iterator[ToolParserSpec]:
    yield ToolParserSpec(
        name="hermes",
        aliases=("qwen3_json",),
        target="openlathe_plugin_json_calls.formats:HERMES",
        summary="a JSON object in <tool_call>: Hermes 2 Pro and 3, Qwen 2.5 and 3",
        markers=("<tool_call>", "</tool_call>"),
        fingerprints=("within <tool_call></tool_call> XML tags",),
        transcripts="openlathe_plugin_json_calls:transcripts/hermes",
    )
