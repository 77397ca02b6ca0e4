"""The formats this package brings."""

from collections.abc import Iterator

from openlathe.spi import ReasoningParserSpec, hookimpl


@hookimpl
def openlathe_reasoning_parsers() -> Iterator[ReasoningParserSpec]:
    yield ReasoningParserSpec(
        name="qwen3",
        target="openlathe_plugin_sections.formats:QWEN3",
        summary="thinking in <think> before the answer: Qwen 3",
        markers=("<think>", "</think>"),
        fingerprints=("<think>", "enable_thinking"),
        transcripts="openlathe_plugin_sections:transcripts/qwen3",
    )
