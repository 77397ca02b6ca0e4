"""Completions, tokenize and detokenize."""

from __future__ import annotations

from typing import Any

import pytest


def test_an_answer(server: Any) -> None:
    answer = server.complete("Once", max_tokens=3).json()
    assert answer["object"] == "text_completion"
    assert answer["id"].startswith("cmpl-")
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["text"]
    assert server.engine.text.startswith(choice["text"])
    assert answer["usage"]["completion_tokens"] == 3


def test_the_default_budget_is_16(server: Any) -> None:
    server.engine.text = "word " * 100
    assert server.complete().json()["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize(
    "prompt", ["Once", [5, 6, 7], ["Once", "Twice", "Thrice"], [[5], [6, 7]], ["a", [6, 7]]], ids=str
)
def test_prompts_of_every_form(server: Any, tokenizer: Any, prompt: Any) -> None:
    answer = server.complete(prompt, n=2).json()
    several = isinstance(prompt, list) and not isinstance(prompt[0], int)
    texts = prompt if several else [prompt]
    ids = [tokenizer.encode(text) if isinstance(text, str) else text for text in texts]
    sent = sorted(server.engine.requests, key=lambda request: int(request.request_id.rpartition("-")[2]))
    assert [request.prompt_token_ids for request in sent] == [prompt for prompt in ids for _ in range(2)]
    assert [choice["index"] for choice in answer["choices"]] == list(range(2 * len(ids)))
    assert answer["usage"]["prompt_tokens"] == sum(map(len, ids))
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 3 * len(ids)


@pytest.mark.parametrize("tick", [1, 2, 50])
def test_an_answer_is_the_fold_of_its_stream(server: Any, read_events: Any, tick: int) -> None:
    server.engine.text, server.engine.tick = "Einen Tag é 😀, zwei", tick
    fields = {"prompt": ["Once", "Twice"], "n": 2, "max_tokens": 200, "logprobs": 1, "return_token_ids": True}
    whole = server.post("/v1/completions", fields).json()
    choices: dict[int, dict[str, Any]] = {}
    for chunk in read_events(server.post("/v1/completions", {**fields, "stream": True})):
        for choice in chunk["choices"]:
            one = choices.setdefault(choice["index"], {"text": "", "token_ids": [], "tokens": [], "text_offset": []})
            one["text"] += choice["text"]
            one["token_ids"] += choice["token_ids"]
            one["finish_reason"] = choice["finish_reason"]
            for name in ("tokens", "text_offset"):
                one[name] += choice["logprobs"][name]
    for choice in whole["choices"]:
        folded = choices[choice["index"]]
        assert choice["text"] == folded["text"] == server.engine.text
        assert choice["token_ids"] == folded["token_ids"]
        assert choice["finish_reason"] == folded["finish_reason"] == "stop"
        for name in ("tokens", "text_offset"):
            assert choice["logprobs"][name] == folded[name]


def test_logprobs(server: Any, tokenizer: Any) -> None:
    server.engine.text = "one two"
    logprobs = server.complete(logprobs=2).json()["choices"][0]["logprobs"]
    ids = [*tokenizer.encode("one two", add_special_tokens=False), server.engine.requests[0].eos_token_ids[0]]
    tokens = [tokenizer.token_text(id) for id in ids]
    assert logprobs["tokens"] == tokens
    assert logprobs["token_logprobs"] == [-0.5] * len(ids)
    assert logprobs["text_offset"] == [len("".join(tokens[:position])) for position in range(len(ids))]
    assert all(token in top and 2 <= len(top) <= 3 for token, top in zip(tokens, logprobs["top_logprobs"], strict=True))
    assert server.complete(logprobs=21).status_code == 400


def test_minus_infinity_is_a_number_in_json(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    original = type(server.engine)._output

    def output(engine: Any, *args: Any) -> Any:
        made = original(engine, *args)
        made.logprobs[0].logprobs[-1] = float("-inf")
        return made

    monkeypatch.setattr(type(server.engine), "_output", output)
    top = server.complete(logprobs=1).json()["choices"][0]["logprobs"]["top_logprobs"][0]
    assert min(top.values()) == -9999.0
    content = server.chat(logprobs=True, top_logprobs=1).json()["choices"][0]["logprobs"]["content"]
    assert content[0]["top_logprobs"][0]["logprob"] == -9999.0


def test_special_tokens_show_on_request(server: Any) -> None:
    server.engine.text = "a<|im_start|>b"
    assert server.complete().json()["choices"][0]["text"] == "ab"
    assert server.complete(skip_special_tokens=False).json()["choices"][0]["text"] == "a<|im_start|>b"


def test_completions_parse_nothing(server: Any, call_text: Any) -> None:
    server.engine.text = "<think>x</think>" + call_text([("f", {})])
    assert server.complete(max_tokens=200).json()["choices"][0]["text"] == server.engine.text


def test_tokenize_and_back(server: Any, tokenizer: Any) -> None:
    text = "Hello <|im_end|> é 😀"
    answer = server.post("/tokenize", {"prompt": text, "return_token_strs": True}).json()
    assert answer["tokens"] == tokenizer.encode(text)
    assert (answer["count"], answer["max_model_len"]) == (len(answer["tokens"]), 512)
    assert len(answer["token_strs"]) == answer["count"]
    assert server.post("/detokenize", {"tokens": answer["tokens"]}).json() == {"prompt": text}


def test_tokenize_renders_as_a_chat_does(server: Any) -> None:
    messages = [{"role": "user", "content": "Hi"}]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    server.post("/v1/chat/completions", {"messages": messages, "tools": tools})
    answer = server.post("/tokenize", {"messages": messages, "tools": tools}).json()
    assert answer["tokens"] == server.engine.requests[0].prompt_token_ids
    assert answer["token_strs"] is None
