"""A light client: streamed completions over raw sockets, since it shares the cores with the server that it measures."""

from __future__ import annotations

import asyncio
import json
import random
import re
import statistics
import time
from dataclasses import dataclass

HOST, PROMPT, NEW_TOKENS = "127.0.0.1", 128, 64
MODEL = "model"


class Refused(Exception):
    """The server answered with something else than a stream."""


@dataclass(frozen=True)
class Answer:
    """Seconds from sending a request to its first and to its last tokens."""

    first: float
    last: float
    tokens: int


async def complete(port: int, prompt: list[int], new_tokens: int) -> Answer:
    """Streams one greedy completion that never stops early; ``OSError`` where nobody listens."""
    body = json.dumps(
        {
            "model": MODEL,
            "prompt": prompt,
            "max_tokens": new_tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\n"
        f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    started = time.perf_counter()
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(head.encode() + body)
        return await _answer(reader, started)
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader, started: float) -> Answer:
    """Reads to the end. The chunk with the usage has an empty list of choices: it is no token."""
    status = await reader.readline()
    if b" 200 " not in status:
        raise Refused(status.decode(errors="replace").strip() or "the connection was closed")
    first = last = 0.0
    tail = b""
    while data := await reader.read(1 << 16):
        now = time.perf_counter() - started
        if re.search(rb'"choices": ?\[\{', tail[-16:] + data):
            first, last = first or now, now
        tail = (tail + data)[-4096:]
    usage = re.search(rb'"completion_tokens": ?(\d+)', tail)
    if not first or usage is None:
        raise Refused(f"no completion came: {tail[-300:].decode(errors='replace')}")
    return Answer(first, last, int(usage[1]))


async def load(port: int, clients: int, requests: int, draw: random.Random, new_tokens: int) -> dict[str, float]:
    """So many requests from so many clients, each of which sends its next one when the last is answered."""
    prompts = [[draw.randrange(1000, 8000) for _ in range(PROMPT)] for _ in range(requests)]
    answers: list[Answer] = []

    async def client() -> None:
        while prompts:
            answers.append(await complete(port, prompts.pop(), new_tokens))

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    seconds = time.perf_counter() - started
    if wrong := {answer.tokens for answer in answers} - {new_tokens}:
        raise Refused(f"{new_tokens} tokens were asked for and {sorted(wrong)} came")
    return {
        "value": requests / seconds,
        "tokens_per_second": requests * new_tokens / seconds,
        "ttft_ms": 1e3 * statistics.median(answer.first for answer in answers),
        "itl_ms": 1e3 * statistics.median((answer.last - answer.first) / (new_tokens - 1) for answer in answers),
    }
