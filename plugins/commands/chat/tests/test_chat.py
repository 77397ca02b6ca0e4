"""The chat command's conversation, and its client against a server that answers by the book."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from openlathe_plugin_chat.chat import Conversation
from openlathe_plugin_chat.client import ChatClient

from openlathe.cli.main import main
from openlathe.spi import OpenlatheError

Answer = tuple[int, str]


class Server(HTTPServer):
    """Answers each request with ``answer(path, body)`` and remembers what was asked."""

    answer: Callable[[str, Any], Answer]

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, Any, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body: Any) -> None:
        self.server.asked.append((self.path, body, self.headers.get("Authorization")))
        status, text = self.server.answer(self.path, body)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: object) -> None:
        """Keeps the test's output quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.answer = lambda path, body: (200, MODELS if path.endswith("/models") else ANSWER)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def sse(*deltas: dict[str, Any]) -> str:
    chunks = [json.dumps({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    return "".join(f"data: {chunk}\n\n" for chunk in [*chunks, json.dumps({"choices": [], "usage": {}}), "[DONE]"])


MODELS = json.dumps({"object": "list", "data": [{"id": "acme/one"}, {"id": "acme/two"}]})
ANSWER = sse(
    {"role": "assistant", "content": ""},
    {"reasoning": "Hm", "reasoning_content": "Hm"},
    {"reasoning_content": "m."},
    {"content": "Hé"},
    {"content": "llo"},
)
HI = [{"role": "user", "content": "hi"}]


# -- the client ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_pieces_of_an_answer(server: Server, suffix: str) -> None:
    with ChatClient(server.url + suffix, model=None, api_key="secret") as client:
        assert client.model == "acme/one"
        pieces = list(client.stream(HI))
    assert pieces == [("reasoning", "Hm"), ("reasoning", "m."), ("content", "Hé"), ("content", "llo")]
    path, body, key = server.asked[-1]
    assert (path, key) == ("/v1/chat/completions", "Bearer secret")
    assert body == {"model": "acme/one", "messages": HI, "stream": True}


def test_a_given_name_is_not_asked_for(server: Server) -> None:
    with ChatClient(server.url, model="mine") as client:
        list(client.stream(HI))
    assert [(path, body["model"]) for path, body, _ in server.asked] == [("/v1/chat/completions", "mine")]


@pytest.mark.parametrize(
    "answer, message",
    [
        ((401, json.dumps({"error": {"message": "The key is wrong."}})), "^The key is wrong.$"),
        ((502, "<html>"), "answered 502"),
        ((200, 'data: {"error": {"message": "The engine has stopped."}}\n\n'), "^The engine has stopped.$"),
    ],
)
def test_refusals(server: Server, answer: Answer, message: str) -> None:
    server.answer = lambda path, body: answer
    with ChatClient(server.url, model="m") as client, pytest.raises(OpenlatheError, match=message):
        list(client.stream(HI))


@pytest.mark.parametrize("text", ["hello", "[]", '{"data": []}'])
def test_a_server_of_another_kind(server: Server, text: str) -> None:
    server.answer = lambda path, body: (200, text)
    with pytest.raises(OpenlatheError, match="not as an OpenAI-compatible server"):
        ChatClient(server.url, model=None)


def test_nobody_there() -> None:
    with pytest.raises(OpenlatheError, match=r"127\.0\.0\.1:9 cannot be reached"):
        ChatClient("http://127.0.0.1:9", model=None)


# -- the command --------------------------------------------------------------------------------------------------


def test_a_conversation(server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("hi\n\nagain\n/reset\nfresh\n/help\n/exit\nnever\n"))
    assert main(["chat", "--url", server.url, "--system-prompt", "Be brief."]) == 0
    system, user = {"role": "system", "content": "Be brief."}, lambda text: {"role": "user", "content": text}
    asked = [body["messages"] for _, body, _ in server.asked if body]
    answer = {"role": "assistant", "content": "Héllo"}
    assert asked == [
        [system, user("hi")],
        [system, user("hi"), answer, user("again")],
        [system, user("fresh")],
    ]
    shown = capsys.readouterr().out
    assert shown.startswith("Hmm.\n\nHéllo\nHmm.\n\nHéllo\n")
    assert "/reset" in shown


def test_one_quick_message(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "acme/two", "--url", server.url, "-q", "hi", "--api-key", "k"]) == 0
    assert [(path, body["model"], key) for path, body, key in server.asked] == [
        ("/v1/chat/completions", "acme/two", "Bearer k")
    ]
    assert capsys.readouterr().out == "Hmm.\n\nHéllo\n"


def test_a_refused_message_is_forgotten(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    refusal = (400, json.dumps({"error": {"message": "Too long."}}))
    server.answer = lambda path, body: refusal if body and body["messages"][-1]["content"] == "long" else (200, ANSWER)
    monkeypatch.setattr("sys.stdin", io.StringIO("long\nhi\n"))
    assert main(["chat", "--url", server.url, "--model-name", "m"]) == 0
    assert [message["content"] for message in server.asked[-1][1]["messages"]] == ["hi"]
    assert capsys.readouterr().err == "error: Too long.\n"
    assert main(["chat", "--url", server.url, "--model-name", "m", "--quick", "long"]) == 1


def test_an_interrupted_answer_stays_in_the_conversation(capsys: pytest.CaptureFixture[str]) -> None:
    class Client:
        def stream(self, messages: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
            self.messages = list(messages)
            yield "content", "Once upon"
            raise KeyboardInterrupt

    client = Client()
    conversation = Conversation(client, None)  # type: ignore[arg-type]
    assert conversation.say("a story")
    assert conversation.say("go on")
    assert [message["content"] for message in client.messages] == ["a story", "Once upon", "go on"]


def test_settings_of_a_server_that_runs_already_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "--url", "http://x", "--max-model-len", "4k"]) == 2
    assert "--max-model-len has no effect" in capsys.readouterr().err
