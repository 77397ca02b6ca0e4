"""What a streamed token costs around the model: CPU time of the server, of the engine's host work and of each stage.

The server and the engine's process are real, the executor is a script (:mod:`.scripted`), the client a process of its
own. Processes are counted by the kernel, which knows no waiting; stages are wrapped in a run of their own, since that
makes them dearer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import uvloop

from openlathe.config import EngineConfig, ServerConfig
from openlathe.engine.client import EngineClient
from openlathe.engine.spawn import SpawnedEngine
from openlathe.frontend.choice import Choice
from openlathe.plugins.assemble import assemble
from openlathe.plugins.plan import Plan, make_plan
from openlathe.server.listen import bind
from openlathe.server.openai import OpenAIDialect
from openlathe.server.record import Record
from openlathe.server.run import serve
from openlathe_sdk.checkpoints import tiny_qwen3

from .host import timed
from .streams import Answers, Load, run

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
LOADS = {
    "32 clients": Load(COMPLETIONS, clients=32, requests=160, prompt=128, output=64),
    "32 clients, chat": Load(CHAT, clients=32, requests=160, prompt=128, output=64),
    "32 clients, long answers": Load(COMPLETIONS, clients=32, requests=32, prompt=128, output=512),
    "8 clients": Load(COMPLETIONS, clients=8, requests=40, prompt=128, output=64),
    "1 client": Load(COMPLETIONS, clients=1, requests=2, prompt=128, output=200),
}
#: Of the server's work for a token, what can be told apart; the rest is HTTP, sockets and the event loop.
STAGES: dict[str, tuple[type, str]] = {
    "hand out the outputs": (EngineClient, "_take"),
    "detokenise and parse": (Choice, "feed"),
    "count": (Record, "add"),
    "encode": (OpenAIDialect, "events"),
}


@dataclass
class Cost:
    """Nanoseconds on a CPU so far."""

    server: int
    engine: int

    @classmethod
    def now(cls, engine: int) -> Cost:
        return cls(_on_cpu(os.getpid()), _on_cpu(engine))


def serving(rounds: int) -> dict[str, float]:
    """Microseconds of CPU time per streamed token, the least of several runs, and how far apart tokens arrive."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve_and_measure(rounds))


async def _serve_and_measure(rounds: int) -> dict[str, float]:
    registry, figures = assemble(), dict[str, float]()
    plan = _scripted(make_plan(EngineConfig(model=str(tiny_qwen3())), registry))
    config = ServerConfig(port=0, uvicorn_log_level="warning", disable_uvicorn_access_log=True)
    with bind(config) as sock, SpawnedEngine() as spawned, ProcessPoolExecutor(1, get_context("spawn")) as clients:
        ready = asyncio.Event()

        async def measure() -> None:
            try:
                await ready.wait()
                await _measure(rounds, sock.getsockname()[1], spawned.process.pid, clients, figures)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)

        measuring = asyncio.create_task(measure())
        await serve(plan, config, registry, sock, spawned, progress=lambda text: None, ready=lambda url: ready.set())
        await measuring
    return figures


def _scripted(plan: Plan) -> Plan:
    executor = replace(plan.choices["executor"], target="benchmarks.scripted:ScriptedExecutor")
    return replace(plan, choices={**plan.choices, "executor": executor})


async def _measure(
    rounds: int, port: int, engine: int, clients: ProcessPoolExecutor, figures: dict[str, float]
) -> None:
    loop = asyncio.get_running_loop()

    async def answered(load: Load) -> Answers:
        answers = await loop.run_in_executor(clients, run, port, load)
        assert not answers.failed, "every request is answered"
        return answers

    for name, load in LOADS.items():
        await answered(replace(load, requests=load.clients, output=8))
        tokens = load.requests * load.output
        costs, gaps = [], []
        for _ in range(rounds):
            before = Cost.now(engine)
            gaps += (await answered(load)).between
            after = Cost.now(engine)
            costs.append(Cost(after.server - before.server, after.engine - before.engine))
        figures[f"{name}: server us"] = min(cost.server for cost in costs) / tokens / 1e3
        figures[f"{name}: engine us"] = min(cost.engine for cost in costs) / tokens / 1e3
        figures[f"{name}: between tokens ms (10 are the step)"] = 1e3 * statistics.median(gaps)
    load = LOADS["32 clients, long answers"]
    with _stages() as spent:
        await answered(load)
    for name, seconds in spent.items():
        figures[f"of it, {name} us"] = 1e6 * sum(seconds) / load.requests / load.output


@contextmanager
def _stages() -> Iterator[dict[str, list[float]]]:
    spent: dict[str, list[float]] = {name: [] for name in STAGES}
    with ExitStack() as stack:
        for name, (owner, method) in STAGES.items():
            stack.enter_context(timed(owner, method, spent[name]))
        yield spent


def _on_cpu(pid: int) -> int:
    """Of all threads that a process has now."""
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())
