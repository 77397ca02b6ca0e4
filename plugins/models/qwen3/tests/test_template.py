"""Qwen3's chat template against prompts written out by hand, as the format is documented."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pytest

from openlathe.frontend.render import ChatRenderer

SOURCE = (files("openlathe_plugin_qwen3") / "templates" / "qwen3.jinja").read_text(encoding="utf-8")
RENDERER = ChatRenderer(SOURCE, {})

SYSTEM = {"role": "system", "content": "Be brief."}
HELLO = {"role": "user", "content": "Hello!"}
WEATHER = {"role": "user", "content": "Weather in Zürich?"}
TOOL = {"type": "function", "function": {"name": "weather", "description": "é", "parameters": {"type": "object"}}}
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Zürich"}'}}
RESULT = {"role": "tool", "tool_call_id": "1", "content": "sunny"}


def calling(content: str | None = None, calls: int = 1, **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content, "tool_calls": [CALL] * calls, **fields}


def check(messages: list[Any], expected: str, **options: Any) -> None:
    assert RENDERER.render(messages, **options) == expected


def test_a_question() -> None:
    check([HELLO], "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n")


def test_a_system_prompt() -> None:
    check(
        [SYSTEM, HELLO],
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello!<|im_end|>\n",
        add_generation_prompt=False,
    )


@pytest.mark.parametrize("value, tail", [(True, ""), (None, ""), (False, "<think>\n\n</think>\n\n")])
def test_thinking_is_switched_by_a_prefilled_section(value: bool | None, tail: str) -> None:
    kwargs = {} if value is None else {"enable_thinking": value}
    check([HELLO], f"<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n{tail}", template_kwargs=kwargs)


def test_switches_in_the_text_are_text() -> None:
    check(
        [{"role": "user", "content": "Hello! /no_think"}],
        "<|im_start|>user\nHello! /no_think<|im_end|>\n<|im_start|>assistant\n",
    )


@pytest.mark.parametrize("system", ["", "Be brief.\n\n"])
def test_tools_are_described_in_the_system_turn(system: str) -> None:
    check(
        [SYSTEM, HELLO] if system else [HELLO],
        f"""\
<|im_start|>system
{system}# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{{"type": "function", "function": {{"name": "weather", "description": "é", "parameters": {{"type": "object"}}}}}}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call><|im_end|>
<|im_start|>user
Hello!<|im_end|>
<|im_start|>assistant
""",
        tools=[TOOL],
    )


def test_calls_and_results() -> None:
    check(
        [WEATHER, calling("I look.", 2, reasoning="A tool knows."), RESULT, RESULT],
        """\
<|im_start|>user
Weather in Zürich?<|im_end|>
<|im_start|>assistant
<think>
A tool knows.
</think>

I look.
<tool_call>
{"name": "weather", "arguments": {"town": "Zürich"}}
</tool_call>
<tool_call>
{"name": "weather", "arguments": {"town": "Zürich"}}
</tool_call><|im_end|>
<|im_start|>user
<tool_response>
sunny
</tool_response>
<tool_response>
sunny
</tool_response><|im_end|>
<|im_start|>assistant
""",
    )


@pytest.mark.parametrize(
    "answer",
    [
        {"content": "Hi.", "reasoning": "A greeting."},
        {"content": "Hi.", "reasoning_content": "A greeting."},
        {"content": "<think>\nA greeting.\n</think>\n\nHi."},
        {"content": "A greeting.</think>\n\nHi."},
    ],
)
def test_thinking_before_the_last_question_is_dropped(answer: dict[str, str]) -> None:
    check(
        [HELLO, {"role": "assistant", **answer}, WEATHER],
        "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\nHi.<|im_end|>\n"
        "<|im_start|>user\nWeather in Zürich?<|im_end|>\n<|im_start|>assistant\n",
    )


def test_thinking_is_kept_over_results_that_users_send() -> None:
    result = {"role": "user", "content": "<tool_response>\nsunny\n</tool_response>"}
    check(
        [WEATHER, calling(reasoning="A tool knows."), result],
        """\
<|im_start|>user
Weather in Zürich?<|im_end|>
<|im_start|>assistant
<think>
A tool knows.
</think>

<tool_call>
{"name": "weather", "arguments": {"town": "Zürich"}}
</tool_call><|im_end|>
<|im_start|>user
<tool_response>
sunny
</tool_response><|im_end|>
<|im_start|>assistant
""",
    )


def test_the_last_answer_has_a_thinking_section_even_if_empty() -> None:
    check(
        [HELLO, {"role": "assistant", "content": "Hi."}],
        "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nHi.<|im_end|>\n",
        add_generation_prompt=False,
    )


def test_an_answer_is_continued() -> None:
    check(
        [HELLO, {"role": "assistant", "content": "Hi, I am "}],
        "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nHi, I am ",
        add_generation_prompt=False,
        continue_final_message=True,
    )
