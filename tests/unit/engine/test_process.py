"""The loop of the engine process, around an engine that breaks."""

from __future__ import annotations

import socket

import msgspec

from openlathe.engine.link import EngineLink
from openlathe.engine.messages import EngineDead, EngineOutputs, FromEngine
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
