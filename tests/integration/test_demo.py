"""Server, templates and parsers with a model that really answers: real tokens, real stops, real calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

MODEL = "demo"
CINEMA = {
    "type": "function",
    "function": {
        "name": "find_showtimes",
        "description": "When a film is shown in a city",
        "parameters": {
            "type": "object",
            "properties": {"film": {"type": "string"}, "city": {"type": "string"}},
            "required": ["film", "city"],
        },
    },
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city now",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def demo(start_server: Any) -> Iterator[Any]:
    with start_server(Path(MODEL)) as server:
        yield server


def ask(server: Any, *said: str | dict[str, Any], thinks: bool = False, **fields: Any) -> Any:
    """The choice that answers a conversation: users' turns are texts."""
    messages = [{"role": "user", "content": turn} if isinstance(turn, str) else turn for turn in said]
    extra = {"chat_template_kwargs": {"enable_thinking": thinks}}
    answer = server.openai.chat.completions.create(
        model=MODEL, messages=messages, temperature=0, max_tokens=300, extra_body=extra, **fields
    )
    return answer.choices[0]


def streamed(server: Any, text: str, **fields: Any) -> dict[str, Any]:
    """The same for one text, folded from its chunks."""
    extra = {"chat_template_kwargs": {"enable_thinking": fields.pop("thinks", False)}}
    messages = [{"role": "user", "content": text}]
    folded: dict[str, Any] = {"content": "", "reasoning": "", "calls": [], "chunks": 0}
    for chunk in server.openai.chat.completions.create(
        model=MODEL, messages=messages, temperature=0, max_tokens=300, stream=True, extra_body=extra, **fields
    ):
        (choice,) = chunk.choices
        folded["chunks"] += 1
        folded["content"] += choice.delta.content or ""
        folded["reasoning"] += getattr(choice.delta, "reasoning", None) or ""
        folded["finish_reason"] = choice.finish_reason
        for part in choice.delta.tool_calls or ():
            if part.index == len(folded["calls"]):
                folded["calls"].append([part.function.name, ""])
            folded["calls"][part.index][1] += part.function.arguments or ""
    return folded


def calls(choice: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls or ()]


def test_it_is_what_is_served_where_no_model_is_named(start_server: Any) -> None:
    with start_server(None) as server:
        assert [model.id for model in server.openai.models.list()] == [MODEL]
        assert "a small demonstration model" in server.log.read_text()


def test_it_answers_and_stops_by_itself(demo: Any) -> None:
    choice = ask(demo, "Hello!")
    assert choice.finish_reason == "stop"
    assert choice.message.content
    assert "<" not in choice.message.content


@pytest.mark.parametrize("thinks", [True, False])
def test_thinking_is_switched_by_the_template_and_by_words(demo: Any, thinks: bool) -> None:
    by_template = ask(demo, "What is 12 + 7?", thinks=thinks).message
    by_word = ask(demo, f"What is 12 + 7? /{'think' if thinks else 'no_think'}", thinks=True).message
    for message in (by_template, by_word):
        assert bool(getattr(message, "reasoning", None)) is thinks
        assert "19" in message.content
        assert "think>" not in message.content


def test_a_stream_says_the_same(demo: Any) -> None:
    whole = ask(demo, "What is 12 + 7?", thinks=True)
    folded = streamed(demo, "What is 12 + 7?", thinks=True)
    assert (folded["content"], folded["reasoning"]) == (whole.message.content, whole.message.reasoning)
    assert folded["finish_reason"] == "stop"
    assert folded["chunks"] > 5


def test_the_tool_that_fits_is_called(demo: Any) -> None:
    choice = ask(demo, "What is the weather in Lisbon?", tools=[CINEMA, WEATHER])
    assert choice.finish_reason == "tool_calls"
    assert calls(choice) == [("get_weather", {"city": "Lisbon"})]
    folded = streamed(demo, "What is the weather in Lisbon?", tools=[CINEMA, WEATHER])
    assert [(name, json.loads(text)) for name, text in folded["calls"]] == calls(choice)
    assert folded["finish_reason"] == "tool_calls"
    assert not folded["content"].strip()


def test_a_call_behind_thinking(demo: Any) -> None:
    choice = ask(demo, "What is the weather in Lisbon?", tools=[WEATHER], thinks=True)
    assert calls(choice) == [("get_weather", {"city": "Lisbon"})]
    assert "get_weather" in choice.message.reasoning


def test_two_calls_in_one_turn(demo: Any) -> None:
    choice = ask(demo, "What is the weather in Lisbon and in Oslo?", tools=[WEATHER])
    assert calls(choice) == [("get_weather", {"city": "Lisbon"}), ("get_weather", {"city": "Oslo"})]
    assert len({call.id for call in choice.message.tool_calls}) == 2


def test_a_result_becomes_an_answer(demo: Any) -> None:
    question = "What is the weather in Lisbon?"
    first = ask(demo, question, tools=[WEATHER]).message
    result = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": '{"temperature": 31, "sky": "windy"}'}
    choice = ask(demo, question, first.model_dump(exclude_none=True), result, tools=[WEATHER])
    assert choice.finish_reason == "stop"
    assert not choice.message.tool_calls
    assert "31" in choice.message.content
    assert "windy" in choice.message.content


@pytest.mark.parametrize(
    "text, fields",
    [
        ("Hello!", {}),
        ("What is the weather in Lisbon?", {"tool_choice": "none"}),
    ],
)
def test_no_call_where_none_is_wanted_or_allowed(demo: Any, text: str, fields: dict[str, Any]) -> None:
    choice = ask(demo, text, tools=[WEATHER], **fields)
    assert not choice.message.tool_calls
    assert choice.message.content
    assert choice.finish_reason == "stop"


def test_a_conversation_is_remembered(demo: Any) -> None:
    told = "My name is Carla."
    greeted = {"role": "assistant", "content": ask(demo, told).message.content}
    assert "Carla" in ask(demo, told, greeted, "What is my name?").message.content


def test_a_system_prompt_is_obeyed(demo: Any) -> None:
    named = {"role": "system", "content": "You are Bruno, a helpful assistant."}
    assert "Bruno" in ask(demo, named, "Who are you?").message.content


def test_a_stop_string_cuts_its_answer(demo: Any) -> None:
    whole = ask(demo, "Who are you?").message.content
    assert " demo" in whole
    cut = ask(demo, "Who are you?", stop=[" demo"])
    assert cut.message.content == whole.partition(" demo")[0]
    assert cut.finish_reason == "stop"


def test_many_at_once_get_their_own_answers(demo: Any) -> None:
    sums = [(3 * number + 5, 2 * number + 1) for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda pair: ask(demo, f"What is {pair[0]} + {pair[1]}?", thinks=True), sums))
    right = [str(a + b) in choice.message.content for (a, b), choice in zip(sums, answers, strict=True)]
    assert sum(right) >= 15  # what it cannot add is the model's affair, whose answer it is, the server's
    for (a, b), choice in zip(sums, answers, strict=True):
        assert f"{a} + {b}" in choice.message.content
