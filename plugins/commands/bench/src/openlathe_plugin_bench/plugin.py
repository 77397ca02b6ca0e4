"""How fast it is."""

from __future__ import annotations

from collections.abc import Iterable

from openlathe.spi import CommandSpec, hookimpl


@hookimpl
def openlathe_commands() -> Iterable[CommandSpec]:
    yield CommandSpec(
        name="bench",
        target="openlathe_plugin_bench.bench:main",
        summary="measure latency, throughput, a server under load, start-up; profile the engine's steps",
        assembles=True,
    )
