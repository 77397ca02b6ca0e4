"""OpenAI's two streams, written and read: completions and chat completions."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from openlathe.spi import OpenlatheError

from .datasets import Sample
from .http import HttpClient

#: Name of a backend -> the route it takes unless --endpoint names another.
ENDPOINTS = {
    "openai": "/v1/completions",
    "openai-chat": "/v1/chat/completions",
    "vllm": "/v1/completions",
    "openlathe": "/v1/completions",
}


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: Any = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None


class _Usage(msgspec.Struct):
    completion_tokens: int = 0


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_chunks = msgspec.json.Decoder(_Chunk)


@dataclass
class Outcome:
    """What became of one request; times in seconds, ``started`` on the clock of ``time.perf_counter``.

    ``latency`` ends with the last token. ``output_len`` is what the server counted; where it did not, None.
    """

    sample: Sample
    started: float = 0.0
    ttft: float = 0.0
    itls: list[float] = field(default_factory=list)
    latency: float = 0.0
    output_len: int | None = None
    pieces: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def success(self) -> bool:
        return not self.error

    @property
    def text(self) -> str:
        return "".join(self.pieces)


def body(backend: str, model: str, sample: Sample, fields: Mapping[str, Any]) -> bytes:
    """The request for ``sample``; ``fields`` are sampling parameters and what else is sent with every request."""
    chat = backend == "openai-chat"
    content: dict[str, Any] = {"model": model}
    if chat:
        content |= {"messages": [{"role": "user", "content": sample.text}], "max_completion_tokens": sample.output_len}
    else:
        content |= {"prompt": sample.text, "max_tokens": sample.output_len}
    content |= {"temperature": 0.0, "stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode({**content, **fields})


async def ask(client: HttpClient, endpoint: str, request: bytes, sample: Sample) -> Outcome:
    """Sends ``request`` and times the tokens of its answer; what goes wrong is told in ``error``."""
    outcome = Outcome(sample)
    reader = _StreamReader(outcome)
    outcome.started = reader.last = time.perf_counter()
    try:
        await client.post(endpoint, request, reader.feed)
    except (OpenlatheError, msgspec.MsgspecError) as error:
        outcome.error = str(error)
    if outcome.success and not reader.begun:
        outcome.error = "The answer has no token; the endpoint may not be one that streams."
    return outcome


class _StreamReader:
    """Reads server-sent events from pieces that are cut anywhere and books them in an :class:`Outcome`.

    A piece's events carry the time at which the piece arrived: that is when a client had them.
    """

    def __init__(self, outcome: Outcome) -> None:
        self.last = 0.0
        self.begun = False
        self._outcome = outcome
        self._rest = b""

    def feed(self, data: bytes, now: float) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                event = line[5:].strip()
                if event != b"[DONE]":
                    self._take(_chunks.decode(event), now)

    def _take(self, chunk: _Chunk, now: float) -> None:
        outcome = self._outcome
        if chunk.error is not None:
            outcome.error = str(chunk.error.get("message") if isinstance(chunk.error, dict) else chunk.error)
        if chunk.usage is not None:
            outcome.output_len = chunk.usage.completion_tokens
        for choice in chunk.choices:
            text = _text(choice)
            if text is None:
                continue
            outcome.pieces.append(text)
            if self.begun:
                outcome.itls.append(now - self.last)
            else:
                self.begun = True
                outcome.ttft = now - outcome.started
            self.last = now
            outcome.latency = now - outcome.started


def _text(choice: _Choice) -> str | None:
    """What a chunk brings of the answer; None where it is only a beginning or an end."""
    delta = choice.delta
    if delta is None:
        return choice.text or None
    text = delta.content or delta.reasoning or delta.reasoning_content
    return text or ("" if delta.tool_calls is not None else None)
