"""The newest ``openai`` client against a real server that knows its dialogues by heart."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from openlathe_sdk.checkpoints import SCRIPTS, Script

BY_NAME = dict(SCRIPTS)
MODEL = "scripted"


def ask(server: Any, script: Script, **fields: Any) -> Any:
    if script.tools:
        fields.setdefault("tools", list(script.tools))
    return server.openai.chat.completions.create(
        model=MODEL,
        messages=list(script.messages),
        temperature=0,
        extra_body={"chat_template_kwargs": script.template_kwargs},
        **fields,
    )


def check(script: Script, *, content: str, reasoning: str, calls: list[tuple[str, str]], finish_reason: str) -> None:
    assert content.strip() == script.content
    assert reasoning.strip() == script.reasoning * script.enable_thinking
    expected = [(call.name, dict(call.arguments)) for call in script.calls]
    assert [(name, json.loads(arguments)) for name, arguments in calls] == expected
    assert finish_reason == ("tool_calls" if script.calls else "stop")


@pytest.mark.parametrize("name", BY_NAME)
def test_every_script(scripted_server: Any, name: str) -> None:
    script = BY_NAME[name]
    answer = ask(scripted_server, script)
    (choice,) = answer.choices
    message = choice.message
    assert message.role == "assistant"
    assert answer.usage.completion_tokens > 0
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    calls = [(call.function.name, call.function.arguments) for call in message.tool_calls or ()]
    reasoning = getattr(message, "reasoning", None) or ""
    assert (getattr(message, "reasoning_content", None) or "") == reasoning
    check(
        script, content=message.content or "", reasoning=reasoning, calls=calls, finish_reason=str(choice.finish_reason)
    )


@pytest.mark.parametrize("name", BY_NAME)
def test_every_script_streamed(scripted_server: Any, name: str) -> None:
    script = BY_NAME[name]
    texts = {"content": "", "reasoning": ""}
    calls: list[list[str]] = []
    finish_reason, usage = "", None
    for chunk in ask(scripted_server, script, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            finish_reason = choice.finish_reason or finish_reason
            texts["content"] += choice.delta.content or ""
            texts["reasoning"] += getattr(choice.delta, "reasoning", None) or ""
            for call in choice.delta.tool_calls or ():
                if call.index == len(calls):
                    calls.append([call.function.name, ""])
                calls[call.index][1] += call.function.arguments or ""
    assert usage is not None
    assert usage.completion_tokens > 0
    check(script, **texts, calls=[(name, arguments) for name, arguments in calls], finish_reason=finish_reason)


def test_a_conversation_with_a_tool_held_with_the_clients_own_helper(scripted_server: Any) -> None:
    """The client's own accumulator folds the stream; its message goes back as it is, with the tool's result."""
    script, answer = BY_NAME["weather_call"], BY_NAME["weather_answer"]
    with scripted_server.openai.chat.completions.stream(
        model=MODEL, messages=list(script.messages), tools=list(script.tools), temperature=0
    ) as stream:
        message = stream.get_final_completion().choices[0].message
    (call,) = message.tool_calls
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    result = {**answer.messages[-1], "tool_call_id": call.id}
    reply = scripted_server.openai.chat.completions.create(
        model=MODEL,
        messages=[*script.messages, message, result],
        tools=list(script.tools),
        temperature=0,
    )
    assert reply.choices[0].message.content.strip() == answer.content


def test_several_answers(scripted_server: Any) -> None:
    script = BY_NAME["greeting"]
    answer = ask(scripted_server, script, n=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert {choice.message.content for choice in answer.choices} == {answer.choices[0].message.content}
    seen = {choice.index for chunk in ask(scripted_server, script, n=3, stream=True) for choice in chunk.choices}
    assert seen == {0, 1, 2}


def test_stop(scripted_server: Any) -> None:
    script = BY_NAME["counting"]
    choice = ask(scripted_server, script, stop=[", 5"]).choices[0]
    assert choice.message.content == "1, 2, 3, 4"
    assert (choice.finish_reason, choice.stop_reason) == ("stop", ", 5")
    assert scripted_server.settles()


def test_max_tokens(scripted_server: Any) -> None:
    answer = ask(scripted_server, BY_NAME["counting"], max_completion_tokens=5)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 5


def test_logprobs(scripted_server: Any) -> None:
    choice = ask(scripted_server, BY_NAME["no_thinking"], logprobs=True, top_logprobs=3).choices[0]
    content = choice.logprobs.content
    assert "".join(item.token for item in content).startswith(choice.message.content)
    for item in content:
        assert len(item.top_logprobs) == 3
        assert item.top_logprobs[0].logprob == pytest.approx(item.logprob), "greedy takes the likeliest"
        assert item.logprob <= 0


def test_completions(scripted_server: Any) -> None:
    client = scripted_server.openai
    answer = client.completions.create(model=MODEL, prompt=["One", "Two"], max_tokens=4, temperature=0, logprobs=1)
    assert [choice.index for choice in answer.choices] == [0, 1]
    for choice in answer.choices:
        assert len(choice.logprobs.tokens) == len(choice.logprobs.token_logprobs) <= 4
    texts = {0: "", 1: ""}
    for chunk in client.completions.create(
        model=MODEL, prompt=["One", "Two"], max_tokens=4, temperature=0, stream=True
    ):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == {choice.index: choice.text for choice in answer.choices}


def test_a_repeated_prompt_is_cached(scripted_server: Any) -> None:
    prompt = list(range(40, 140))
    client = scripted_server.openai
    for _ in range(2):
        answer = client.completions.create(model=MODEL, prompt=prompt, max_tokens=1, temperature=0)
    assert answer.usage.prompt_tokens_details.cached_tokens >= 96
    assert scripted_server.gauge("prefix_cache_hits_total") > 0


def test_seeds(scripted_server: Any) -> None:
    def draw(seed: int) -> list[str]:
        answer = scripted_server.openai.completions.create(
            model=MODEL, prompt=[77, 91], max_tokens=12, temperature=1.5, seed=seed, n=2
        )
        return [choice.text for choice in answer.choices]

    first = draw(1)
    assert first == draw(1)
    assert first[0] != first[1]
    assert first != draw(5)


def test_models(scripted_server: Any) -> None:
    models = scripted_server.openai.models.list().data
    assert [model.id for model in models] == [MODEL]
    assert scripted_server.openai.models.retrieve(MODEL).max_model_len == models[0].max_model_len


def test_errors_are_the_clients_own_exceptions(scripted_server: Any) -> None:
    client = scripted_server.openai
    messages: Any = [{"role": "user", "content": "Hi"}]
    with pytest.raises(openai.NotFoundError, match="'scripted'"):
        client.chat.completions.create(model="other", messages=messages)
    with pytest.raises(openai.BadRequestError, match="temperature") as caught:
        client.chat.completions.create(model=MODEL, messages=messages, temperature=-1)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.BadRequestError, match="response_format"):
        client.chat.completions.create(model=MODEL, messages=messages, response_format={"type": "json_object"})
    with pytest.raises(openai.BadRequestError, match="context"):
        client.completions.create(model=MODEL, prompt=[5] * 5000)
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()


def test_tokenize_round_trip(scripted_server: Any) -> None:
    text = "Hello <|im_start|> world, é 😀"
    with scripted_server.http as http:
        tokens = http.post("/tokenize", json={"prompt": text}).json()["tokens"]
        assert http.post("/detokenize", json={"tokens": tokens}).json() == {"prompt": text}
