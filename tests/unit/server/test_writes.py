"""What a stream costs per tick: one write, and an envelope that is encoded once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from openlathe.frontend.choice import Delta
from openlathe.server.openai import OpenAIDialect
from openlathe.server.sse import Dialect
from openlathe.spi.events import Content

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
PROMPTS = {CHAT: {"messages": [{"role": "user", "content": "Hi"}]}, COMPLETIONS: {"prompt": "Once"}}


def bodies(server: Any, path: str, **fields: Any) -> list[bytes]:
    """What the application writes behind the head of its answer, write by write."""
    sent: list[bytes] = []
    content = json.dumps({**PROMPTS[path], "stream": True, "ignore_eos": True, **fields}).encode()
    messages = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive() -> Any:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            sent.append(message["body"])

    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "query_string": b""}
    asyncio.run(server.app(scope, receive, send))
    return sent


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize("tick", [1, 3])
def test_a_tick_is_one_write(server: Any, path: str, tick: int) -> None:
    server.engine.text, server.engine.tick = "one two three four five six seven eight nine ten", tick
    sent = bodies(server, path, max_tokens=9)
    assert len(sent) == 9 // tick + 1
    assert sent[-1] == b"data: [DONE]\n\n"


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(
    "fields",
    [{}, {"stream_options": {"include_usage": True}}, {"n": 3}, {"logprobs": 1}, {"return_token_ids": True}],
    ids=str,
)
def test_an_envelope_encoded_once_says_what_each_chunk_would(
    server: Any, monkeypatch: pytest.MonkeyPatch, path: str, fields: dict[str, Any]
) -> None:
    if path == CHAT and "logprobs" in fields:
        fields = {"logprobs": True}
    fields = {**fields, "model": "alias", "max_tokens": 5, "request_id": 'tricky "choices":[] id'}
    shared = bodies(server, path, **fields)
    monkeypatch.setattr(OpenAIDialect, "events", Dialect.events)
    assert times_aside(shared) == times_aside(bodies(server, path, **fields))


def times_aside(sent: Sequence[bytes]) -> list[Any]:
    """All events in order, without the second in which their stream began."""
    lines = [line.removeprefix(b"data: ") for line in b"".join(sent).split(b"\n\n") if line]
    events = [json.loads(line) for line in lines[:-1]]
    return [{**event, "created": None, "keys": list(event)} for event in events]


def test_envelopes_are_encoded_for_the_first_chunk_only(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    envelope = OpenAIDialect._envelope

    def counted(*args: Any) -> Any:
        made.append(args)
        return envelope(*args)

    monkeypatch.setattr(OpenAIDialect, "_envelope", counted)
    server.engine.text = "one two three four five six seven eight nine ten"
    assert len(bodies(server, COMPLETIONS, max_tokens=9)) == 10
    assert len(made) == 2


def test_deltas_share_no_lists() -> None:
    first, second = Delta(), Delta()
    first.add(Delta(events=[Content("a")], token_ids=[1]))
    assert second == Delta()
