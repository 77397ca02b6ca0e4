"""The client: its HTTP against a server that does as it is told, its streams under every cut."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from openlathe_plugin_bench import openai
from openlathe_plugin_bench.datasets import Sample
from openlathe_plugin_bench.http import HttpClient, RequestFailed
from openlathe_plugin_bench.openai import Outcome, _StreamReader

from openlathe.spi import ConfigError

SAMPLE = Sample([1, 2, 3], "one two three", 4)
Answer = Callable[[bytes], list[bytes]]


def sse(*chunks: Any) -> bytes:
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def text(content: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": content}]}


def delta(**content: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": content}]}


USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9, "total_tokens": 12}}
COMPLETION = sse(text("a"), text("b"), text(""), USAGE)


def response(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def with_server(
    answers: list[list[bytes]], use: Callable[[HttpClient], Awaitable[Any]], *, close: bool = False
) -> tuple[Any, list[bytes], int]:
    """What ``use`` answers, the requests that came, and how many connections there were.

    Each request is answered with the pieces of the next of ``answers``, with ``close`` followed by hanging up.
    """
    requests: list[bytes] = []
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while len(requests) < len(answers):
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                break
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            requests.append(head + await reader.readexactly(length))
            for piece in answers[len(requests) - 1]:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.002)
            if close:
                break
        writer.close()

    async def run() -> Any:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        client = HttpClient(f"http://127.0.0.1:{port}/below/", {"Authorization": "Bearer key"})
        try:
            return await use(client)
        finally:
            client.close()
            server.close()

    return asyncio.run(run()), requests, connections


def ask(client: HttpClient) -> Coroutine[Any, Any, Outcome]:
    return openai.ask(client, "/v1/completions", b'{"a": 1}', SAMPLE)


async def ask_twice(client: HttpClient) -> list[Outcome]:
    return [await ask(client), await ask(client)]


def test_a_request_and_its_answer() -> None:
    outcome, (request,), _ = with_server([[response(COMPLETION)]], ask)
    head, _, content = request.partition(b"\r\n\r\n")
    assert head.splitlines()[0] == b"POST /below/v1/completions HTTP/1.1"
    assert b"authorization: bearer key" in head.lower()
    assert content == b'{"a": 1}'
    assert (outcome.text, outcome.output_len, outcome.error) == ("ab", 9, "")
    assert 0 < outcome.ttft <= outcome.latency
    assert len(outcome.itls) == 1


def test_a_stream_in_chunks_is_timed_as_it_comes() -> None:
    pieces = [COMPLETION[start : start + 7] for start in range(0, len(COMPLETION), 7)]
    chunks = [f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    outcome, _, _ = with_server([[head, *chunks, b"0\r\n\r\n"]], ask)
    assert (outcome.text, outcome.error) == ("ab", "")
    assert outcome.latency == pytest.approx(outcome.ttft + sum(outcome.itls))
    assert outcome.itls[0] > 0


def test_connections_are_used_again() -> None:
    outcomes, _, connections = with_server([[response(COMPLETION)]] * 2, ask_twice)
    assert [outcome.text for outcome in outcomes] == ["ab", "ab"]
    assert connections == 1


def test_a_connection_that_the_server_closed_is_replaced() -> None:
    outcomes, _, connections = with_server([[response(COMPLETION)]] * 2, ask_twice, close=True)
    assert [outcome.error for outcome in outcomes] == ["", ""]
    assert connections == 2


def test_an_answer_may_end_with_the_connection() -> None:
    outcome, _, _ = with_server([[b"HTTP/1.1 200 OK\r\n\r\n", COMPLETION]], ask, close=True)
    assert (outcome.text, outcome.error) == ("ab", "")


@pytest.mark.parametrize(
    "pieces, message",
    [
        ([response(b'{"error": {"message": "Too long."}}', "400 Bad Request")], "The server answered 400: Too long."),
        ([response(b'{"message": "No."}', "404 Not Found")], "The server answered 404: No."),
        ([response(b"<html>", "502 Bad Gateway")], "The server answered 502: <html>"),
        ([response(sse({"error": {"message": "The engine has stopped."}}))], "The engine has stopped."),
        ([response(b"{}")], "The answer has no token"),
        ([response(b"data: {\n\n")], "JSON is malformed|truncated"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ndata"], "closed the connection before its answer had ended"),
        ([b"nonsense\r\n\r\n"], "what it sent is no HTTP"),
    ],
)
def test_what_goes_wrong_is_told(pieces: list[bytes], message: str) -> None:
    outcome, _, _ = with_server([pieces], ask, close=True)
    assert not outcome.success
    assert any(part in outcome.error for part in message.split("|")), outcome.error


def test_nobody_there() -> None:
    with pytest.raises(RequestFailed, match=r"http://127\.0\.0\.1:9 cannot be reached"):
        asyncio.run(HttpClient("http://127.0.0.1:9").get("/v1/models"))


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://host", "http://"])
def test_no_address(url: str) -> None:
    with pytest.raises(ConfigError, match="is no address"):
        HttpClient(url)


# -- streams ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stream, pieces",
    [
        (COMPLETION, ["a", "b"]),
        (COMPLETION.replace(b"\n", b"\r\n"), ["a", "b"]),
        (b": comment\n\n" + sse(text("é")), ["é"]),
        (
            sse(delta(role="assistant", content=""), delta(reasoning="r", reasoning_content="r"), delta(content="c")),
            ["r", "c"],
        ),
        (sse(delta(role="assistant"), delta(tool_calls=[{"index": 0}]), delta(content=None)), [""]),
        (sse({"choices": [{"text": "x", "logprobs": None, "finish_reason": "length"}]}), ["x"]),
    ],
)
def test_every_cut_of_a_stream_reads_the_same(stream: bytes, pieces: list[str]) -> None:
    for cut in range(len(stream) + 1):
        outcome = Outcome(SAMPLE)
        reader = _StreamReader(outcome)
        reader.feed(stream[:cut], 1.0)
        reader.feed(stream[cut:], 2.0)
        assert outcome.pieces == pieces
        assert len(outcome.itls) == len(pieces) - 1


def test_times_are_those_of_arrival() -> None:
    outcome = Outcome(SAMPLE, started=10.0)
    reader = _StreamReader(outcome)
    for moment, content in ((11.0, ""), (12.0, "a"), (14.0, "b"), (17.0, "c"), (18.0, "")):
        reader.feed(sse(text(content)), moment)
    assert (outcome.ttft, outcome.itls, outcome.latency) == (2.0, [2.0, 3.0], 7.0)


def test_bodies() -> None:
    completion = json.loads(openai.body("openai", "m", SAMPLE, {"ignore_eos": True, "temperature": 0.5}))
    assert completion == {
        "model": "m",
        "prompt": "one two three",
        "max_tokens": 4,
        "temperature": 0.5,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
    }
    chat = json.loads(openai.body("openai-chat", "m", SAMPLE, {}))
    assert chat["messages"] == [{"role": "user", "content": "one two three"}]
    assert (chat["max_completion_tokens"], chat["temperature"]) == (4, 0.0)
