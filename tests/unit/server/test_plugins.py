"""What plugins may do to the server: routes of their own, and hearing of events."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from starlette.routing import Route

from openlathe.plugins.assemble import assemble
from openlathe.plugins.discover import Candidate
from openlathe.server.api import ChatRequest, Dialect, ServerAPI, json_response, read
from openlathe.server.observers import Observers
from openlathe.spi import Content, EngineInfo, FinishedRequest, PluginError, RoutesSpec, hookimpl

INFO = EngineInfo(model="tiny", served_names=("tiny",), plan={})
RECORD = FinishedRequest(
    request_id="r", model="tiny", finish_reason="stop", prompt_tokens=1, cached_tokens=0, output_tokens=1,
    time_to_first_token=0.1, total_time=0.2,
)  # fmt: skip


class Count(msgspec.Struct):
    text: str


def count_routes(api: ServerAPI) -> list[Route]:
    async def count(request: Any) -> Any:
        body = await read(request, Count)
        return json_response({"tokens": len(await api.encode(body.text))}, request)

    return [Route("/acme/count", count, methods=["POST"])]


class Said(msgspec.Struct, tag="said"):
    text: str


class ShoutDialect(Dialect):
    """Another API: named events and no [DONE]."""

    done = b""

    def chunks(self, tick: Any) -> list[Said]:
        return [Said(event.text.upper()) for _, delta in tick for event in delta.events if isinstance(event, Content)]

    def answer(self, deltas: Any) -> Said:
        return Said("".join(said.text for said in self.chunks(enumerate(deltas))))

    def encode(self, chunks: Any) -> bytes:
        return b"".join(b"event: said\ndata: " + msgspec.json.encode(chunk) + b"\n\n" for chunk in chunks)


def shout_routes(api: ServerAPI) -> list[Route]:
    async def shout(request: Any) -> Any:
        body = await read(request, ChatRequest)
        job = await api.chat_job(request, body)
        return api.answer(request, job, ShoutDialect(), stream=bool(body.stream))

    return [Route("/acme/shout", shout, methods=["POST"])]


def greedy_routes(api: ServerAPI) -> list[Route]:
    async def models(request: Any) -> Any:
        return json_response({})

    return [Route("/v1/models", models)]


def broken_routes(api: ServerAPI) -> list[Route]:
    raise ValueError("no such thing")


def plugin_with(**hooks: Callable[..., Any]) -> types.ModuleType:
    module = types.ModuleType("acme_plugin")
    for name, hook in hooks.items():
        setattr(module, name, hookimpl(hook))
    return module


@pytest.fixture
def registry_with() -> Iterator[Callable[..., Any]]:
    """A registry of one plugin made of hooks."""

    def make(**hooks: Callable[..., Any]) -> Any:
        sys.modules["acme_plugin"] = plugin_with(**hooks)
        home = sys.modules["acme_routes"] = types.ModuleType("acme_routes")
        for function in (count_routes, shout_routes, greedy_routes, broken_routes):
            setattr(home, function.__name__, function)
        names = {"name": "acme", "distribution": "acme", "version": "1.0", "value": "acme_plugin"}
        candidate = Candidate(**names, group="openlathe.v1", origin="path")
        return assemble(candidates=[candidate])

    yield make
    del sys.modules["acme_plugin"], sys.modules["acme_routes"]


def routes(target: str) -> Callable[[], Any]:
    def openlathe_routes() -> Any:
        yield RoutesSpec(name="acme", target=f"acme_routes:{target}")

    return openlathe_routes


def test_a_plugin_serves_routes_of_its_own(make_server: Any, registry_with: Any) -> None:
    server = make_server(registry=registry_with(openlathe_routes=routes("count_routes")), api_key=["k"])
    assert server.post("/acme/count", {"text": "one two"}).status_code == 401
    options = {"headers": {"Authorization": "Bearer k"}}
    answer = server.post("/acme/count", {"text": "one two", "x": 1}, **options)
    assert answer.json()["tokens"] == len(server.state.tokenizer.encode("one two"))
    assert answer.headers["x-openlathe-unknown-fields"] == "x"
    wrong = server.post("/acme/count", {"text": 3}, **options)
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "text")


def test_a_plugin_speaks_another_dialect_over_the_same_stream(make_server: Any, registry_with: Any) -> None:
    server = make_server(registry=registry_with(openlathe_routes=routes("shout_routes")))
    body = {"messages": [{"role": "user", "content": "Hi"}], "chat_template_kwargs": {"enable_thinking": False}}
    assert server.post("/acme/shout", body).json() == {"type": "said", "text": "HELLO THERE."}
    lines = server.post("/acme/shout", {**body, "stream": True}).text.split("\n\n")[:-1]
    assert all(line.startswith("event: said\ndata: ") for line in lines)
    said = [msgspec.json.decode(line.partition("data: ")[2]) for line in lines]
    assert "".join(event["text"] for event in said) == "HELLO THERE."
    assert server.post("/acme/shout", {"messages": []}).status_code == 400
    server.engine.text = "<think>Nothing to say.</think>"
    silent = server.post("/acme/shout", {"messages": body["messages"], "stream": True})
    assert (silent.status_code, silent.text) == (200, ""), "a stream of no chunks is still an answer"


@pytest.mark.parametrize("target, says", [("greedy_routes", "/v1/models"), ("broken_routes", "no such thing")])
def test_routes_that_cannot_be_served_stop_the_start_and_name_the_plugin(
    make_server: Any, registry_with: Any, target: str, says: str
) -> None:
    with pytest.raises(PluginError, match=r"acme 1\.0") as caught:
        make_server(registry=registry_with(openlathe_routes=routes(target)))
    assert says in str(caught.value)


def test_observers_hear_of_everything_in_batches(registry_with: Any) -> None:
    heard: list[Any] = []
    registry = registry_with(
        openlathe_engine_started=lambda info: heard.append(("started", info.model)),
        openlathe_engine_stopping=lambda info: heard.append(("stopping", info.model)),
        openlathe_request_finished=lambda records: heard.append(len(records)),
    )

    async def scenario() -> None:
        observers = Observers(registry.hooks)
        await observers.start(INFO)
        observers.request_finished(RECORD)
        observers.request_finished(RECORD)
        await observers.flush()
        await observers.flush()
        observers.request_finished(RECORD)
        await observers.stop(INFO)

    asyncio.run(scenario())
    assert heard == [("started", "tiny"), 2, 1, ("stopping", "tiny")]


def test_an_observer_that_raises_is_logged_once_and_dropped(
    registry_with: Any, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []

    def finished(records: Any) -> None:
        calls.append(len(records))
        raise RuntimeError("boom")

    observers = Observers(registry_with(openlathe_request_finished=finished).hooks)

    async def scenario() -> None:
        for _ in range(5):
            observers.request_finished(RECORD)
            await observers.flush()

    asyncio.run(scenario())
    assert len(calls) == 3
    assert caplog.text.count("RuntimeError: boom") == 1


def test_finished_requests_are_told(server: Any) -> None:
    told: list[FinishedRequest] = []
    server.state.on_finished = told.append
    server.complete([1, 2], max_tokens=2, n=2)
    assert {(record.finish_reason, record.prompt_tokens, record.output_tokens) for record in told} == {("length", 2, 2)}
    assert len(told) == 2
    assert all(0 <= (record.time_to_first_token or -1) <= record.total_time for record in told)
