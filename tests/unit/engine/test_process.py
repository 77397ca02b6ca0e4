"""The loop of the engine process, around an engine that breaks."""

from __future__ import annotations

import socket

import msgspec

from openlathe.engine.link import EngineLink
from openlathe.engine.messages import EngineDead, EngineOutputs, FromEngine, RequestOutput
from openlathe.engine.process import EngineProcess


class BreakingCore:
    """Fails in its first step; ``told`` is what the client knew when it had come to rest."""

    has_work = True

    def __init__(self, client: socket.socket) -> None:
        self._client = EngineLink(client)
        self.told: list[FromEngine] = []

    def step(self) -> EngineOutputs:
        raise RuntimeError("out of memory")

    def stop(self) -> None:
        self.told += [msgspec.msgpack.decode(data, type=FromEngine) for data in self._client.receive(wait=True)]


def test_a_client_hears_of_the_end_before_the_steps_under_way_have_ended() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = EngineProcess(EngineLink(theirs))
        core = process._core = BreakingCore(ours)  # type: ignore[assignment]
        process._load = lambda: None  # type: ignore[method-assign]
        assert process.run() == 1
    assert core.told == [EngineDead(reason="The engine stopped: RuntimeError: out of memory")]


class SteppingCore:
    """Has work for three steps, each of which brings something to 32 requests."""

    def __init__(self) -> None:
        self.steps = 0

    @property
    def has_work(self) -> bool:
        return self.steps < 3

    def step(self) -> EngineOutputs:
        self.steps += 1
        return EngineOutputs(outputs=[RequestOutput(request_id=str(index), token_ids=[7]) for index in range(32)])

    def wait(self) -> None:
        pass

    def stop(self) -> None:
        pass


def test_a_step_is_one_message_and_one_write() -> None:
    ours, theirs = socket.socketpair()
    written: list[bytes] = []
    with ours, theirs:
        link = EngineLink(theirs)
        send = link.send
        link.send = lambda message: (written.append(message), send(message))[1]  # type: ignore[method-assign]
        process = EngineProcess(link)
        process._core = SteppingCore()  # type: ignore[assignment]
        process._load = lambda: None  # type: ignore[method-assign]
        process._receive = lambda: process._core.has_work  # type: ignore[method-assign]
        assert process.run() == 0
        messages = [msgspec.msgpack.decode(data, type=FromEngine) for data in EngineLink(ours).receive(wait=True)]
    assert len(written) == len(messages) == 3
    assert all(isinstance(message, EngineOutputs) and len(message.outputs) == 32 for message in messages)
