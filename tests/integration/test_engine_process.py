"""The engine core in a process of its own: streams, aborts, refusals, and what happens when it dies."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace as replace_request

from openlathe import LLM, SamplingParams
from openlathe.config import EngineConfig
from openlathe.engine.client import EngineClient
from openlathe.engine.messages import EngineRequest
from openlathe.plugins.assemble import assemble
from openlathe.plugins.plan import make_plan
from openlathe.spi import ConfigError, EngineDeadError, InvalidRequest
from openlathe_sdk.checkpoints import tiny_qwen3

GREEDY = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    return tiny_qwen3()


def client_for(checkpoint: Path, **settings: Any) -> EngineClient:
    return EngineClient(make_plan(EngineConfig(model=str(checkpoint), **settings), assemble()))


@asynccontextmanager
async def running(checkpoint: Path, **settings: Any) -> AsyncIterator[EngineClient]:
    client = client_for(checkpoint, **settings)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


def request(name: str, tokens: list[int], **sampling: Any) -> EngineRequest:
    params = SamplingParams(**{"temperature": 0, "max_tokens": 20, "ignore_eos": True, **sampling})
    return EngineRequest(request_id=name, prompt_token_ids=tokens, sampling=params)


async def collect(client: EngineClient, source: EngineRequest) -> list[int]:
    return [token async for outputs in client.generate(source) for output in outputs for token in output.token_ids]


async def exhaust(stream: AsyncIterator[Any]) -> None:
    async for _ in stream:
        pass


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.02)


def test_streams_equal_the_engine_in_process(checkpoint: Path) -> None:
    prompts = [[5, 6, 7], list(range(40)), [9]]
    expected = [
        output.outputs[0].token_ids for output in LLM(str(checkpoint)).generate(prompts, GREEDY, use_tqdm=False)
    ]

    async def scenario() -> list[list[int]]:
        async with running(checkpoint) as client:
            assert client.facts["max_model_len"] == client.plan.max_model_len
            return await asyncio.gather(
                *(collect(client, request(str(index), prompt)) for index, prompt in enumerate(prompts))
            )

    assert asyncio.run(scenario()) == expected


def test_closing_a_stream_frees_its_blocks(checkpoint: Path) -> None:
    async def scenario() -> None:
        async with running(checkpoint) as client:
            stream = client.generate(request("long", [1, 2, 3], max_tokens=3000))
            await anext(stream)
            await stream.aclose()

            async def idle() -> bool:
                stats = await client.call("stats")
                return stats["running"] == 0 and stats["free_blocks"] == stats["total_blocks"]

            await until(idle)

    asyncio.run(scenario())


def test_a_held_request_is_forked_from_by_its_id_until_it_is_released(checkpoint: Path) -> None:
    async def cached(client: EngineClient, name: str) -> int:
        source = replace_request(request(name, [*range(40, 65), 9], max_tokens=1), fork_of="held")
        (outputs,) = [outputs async for outputs in client.generate(source)]
        return outputs[0].cached_tokens or 0

    async def scenario() -> None:
        async with running(checkpoint, enable_prefix_caching=False) as client:
            await collect(client, replace_request(request("held", list(range(40, 65)), max_tokens=1), hold=True))
            assert (await client.call("stats"))["held"] == 1
            assert await cached(client, "fork") == 25
            client.release(["held", "unknown"])
            client.release(["held"])
            assert await cached(client, "late fork") == 0
            stats = await client.call("stats")
            assert (stats["held"], stats["free_blocks"]) == (0, stats["total_blocks"])

    asyncio.run(scenario())


def test_what_the_engine_refuses_comes_back_with_its_sentence(checkpoint: Path) -> None:
    async def scenario() -> None:
        async with running(checkpoint, max_model_len=64) as client:
            with pytest.raises(InvalidRequest, match="64"):
                await collect(client, request("long", list(range(64))))
            with pytest.raises(InvalidRequest, match="outside the vocabulary"):
                await collect(client, request("odd", [10**6]))
            with pytest.raises(ConfigError, match="no call"):
                await client.call("unheard_of")
            assert len(await collect(client, request("fine", [1, 2]))) == 20

    asyncio.run(scenario())


def test_a_cache_too_small_is_refused_before_serving(checkpoint: Path) -> None:
    client = client_for(checkpoint, kv_cache_memory_bytes=1000)
    with pytest.raises(ConfigError, match="--kv-cache-memory-bytes"):
        asyncio.run(client.start())


def test_a_killed_engine_fails_its_requests_and_the_next_ones(checkpoint: Path) -> None:
    async def scenario() -> None:
        async with running(checkpoint) as client:
            stream = client.generate(request("long", [1, 2, 3], max_tokens=3000))
            await anext(stream)
            os.kill(client._child.process.pid, signal.SIGKILL)
            with pytest.raises(EngineDeadError, match="not running"):
                await asyncio.wait_for(exhaust(stream), 20)
            with pytest.raises(EngineDeadError):
                await collect(client, request("late", [1]))
            with pytest.raises(EngineDeadError):
                await client.call("stats")

    asyncio.run(scenario())


def test_an_engine_that_died_is_started_again(checkpoint: Path) -> None:
    async def scenario() -> None:
        async with running(checkpoint) as client:
            expected = await collect(client, request("before", [9]))
            slow = client.generate(request("slow", [1, 2, 3], max_tokens=3000))
            await anext(slow)
            assert client.stats.running == 1
            os.kill(client._child.process.pid, signal.SIGKILL)
            dead = await asyncio.wait_for(client.died(), 20)
            assert "signal 9" in dead.reason
            assert client.stats.running == 0
            await client.start()
            with pytest.raises(EngineDeadError, match="signal 9"):
                await exhaust(slow)
            assert await collect(client, request("after", [9])) == expected

    asyncio.run(scenario())


def test_nothing_is_left_in_the_file_system_while_it_runs(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    async def scenario() -> None:
        async with running(checkpoint) as client:
            assert list(tmp_path.iterdir()) == []
            assert len(await collect(client, request("fine", [1, 2]))) == 20

    asyncio.run(scenario())


def test_an_id_used_again_gets_nothing_of_its_predecessor(checkpoint: Path) -> None:
    async def scenario() -> None:
        async with running(checkpoint) as client:
            expected = await collect(client, request("same", [9]))
            for _ in range(20):
                stream = client.generate(request("same", [1, 2, 3], max_tokens=3000))
                await anext(stream)
                await stream.aclose()
                assert await collect(client, request("same", [9])) == expected

    asyncio.run(scenario())


def test_a_call_that_fails_ends_nothing_else(checkpoint: Path) -> None:
    async def scenario() -> None:
        async with running(checkpoint) as client:
            with pytest.raises(ConfigError, match="stats"):
                await client.call("stats", "surplus")
            assert len(await collect(client, request("fine", [1, 2]))) == 20

    asyncio.run(scenario())


def test_stopping_fails_what_still_waits(checkpoint: Path) -> None:
    async def scenario() -> None:
        async with running(checkpoint) as client:
            stream = client.generate(request("long", [1, 2, 3], max_tokens=3000))
            await anext(stream)
            rest = asyncio.create_task(exhaust(stream))
            await client.stop()
            with pytest.raises(EngineDeadError, match="stopped"):
                await asyncio.wait_for(rest, 5)
            with pytest.raises(EngineDeadError, match="stopped"):
                await client.call("stats")

    asyncio.run(scenario())


def test_a_start_that_is_cancelled_ends_the_process_at_once(checkpoint: Path) -> None:
    async def scenario() -> None:
        client = client_for(checkpoint)
        start = asyncio.create_task(client.start())
        await asyncio.sleep(0.3)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(start, 5)
        assert client._child.process is not None
        assert client._child.process.returncode == -signal.SIGKILL

    asyncio.run(scenario())


def test_a_step_that_raises_is_told_to_everybody_after_what_came_before(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "failing_executor.py").write_text(
        "from openlathe.engine.executor import UniprocExecutor\n"
        "class FailingExecutor(UniprocExecutor):\n"
        "    def _execute(self, plan):\n"
        "        assert plan.step < 5, 'the fifth step'\n"
        "        super()._execute(plan)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def scenario() -> None:
        client = client_for(checkpoint)
        executor = replace(client.plan.choices["executor"], target="failing_executor:FailingExecutor")
        client.plan = replace(client.plan, choices={**client.plan.choices, "executor": executor})
        await client.start()
        slow = client.generate(request("slow", [1, 2, 3]))
        told = list(await anext(slow))

        async def go_on() -> None:
            async for outputs in slow:
                told.extend(outputs)

        waiting = asyncio.create_task(exhaust(client.generate(request("waiting", [4, 5]))))
        with pytest.raises(EngineDeadError, match="the fifth step"):
            await asyncio.wait_for(waiting, 20)
        with pytest.raises(EngineDeadError, match="the fifth step"):
            await go_on()
        assert sum(len(output.token_ids) for output in told) == 5
        await client.stop()
        assert client._child.process is not None
        assert client._child.process.returncode == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("checked", [True, False])
def test_a_block_pool_that_has_lost_a_block(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checked: bool
) -> None:
    (tmp_path / "leaking_executor.py").write_text(
        "from openlathe.engine.block_pool import BlockPool\n"
        "from openlathe.engine.executor import UniprocExecutor as LeakingExecutor\n"
        "release = BlockPool.release\n"
        "BlockPool.release = lambda self, blocks: release(self, list(blocks)[1:])\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    async def scenario() -> None:
        client = client_for(checkpoint, check_kv_integrity=checked)
        executor = replace(client.plan.choices["executor"], target="leaking_executor:LeakingExecutor")
        client.plan = replace(client.plan, choices={**client.plan.choices, "executor": executor})
        await client.start()
        assert len(await collect(client, request("leaks", [1, 2, 3]))) == 20
        if checked:
            dead = await asyncio.wait_for(client.died(), 20)
            assert "reference counts differ" in dead.reason
        else:
            assert len(await collect(client, request("leaks", [1, 2, 3]))) == 20
        await client.stop()

    asyncio.run(scenario())


def test_a_sound_block_pool_passes_its_checks(checkpoint: Path) -> None:
    async def scenario() -> None:
        async with running(checkpoint, check_kv_integrity=True, num_gpu_blocks_override=260) as client:
            for _ in range(3):
                streams = [collect(client, request(str(index), [index + 1] * 300)) for index in range(16)]
                left = client.generate(request("left", [1, 2, 3], max_tokens=3000))
                await anext(left)
                results = asyncio.gather(*streams)
                await left.aclose()
                assert [len(tokens) for tokens in await results] == [20] * 16
            assert (await client.call("stats"))["preemptions"] > 0

    asyncio.run(scenario())


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_an_engine_whose_client_never_sent_a_plan_ends() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        command = [sys.executable, "-m", "openlathe.engine.process", str(theirs.fileno())]
        engine = subprocess.Popen(command, pass_fds=[theirs.fileno()])
    ours.close()
    assert engine.wait(20) == 0


@pytest.mark.parametrize("moment", ["idle", "streaming"])
def test_an_engine_whose_client_is_gone_ends(checkpoint: Path, tmp_path: Path, moment: str) -> None:
    async def scenario() -> int:
        script = tmp_path / "client.py"
        script.write_text(
            "import asyncio, os, sys\n"
            "from openlathe.config import EngineConfig\n"
            "from openlathe.engine.messages import EngineRequest, SamplingParams\n"
            "from openlathe.engine.client import EngineClient\n"
            "from openlathe.plugins.assemble import assemble\n"
            "from openlathe.plugins.plan import make_plan\n"
            "async def main():\n"
            "    client = EngineClient(make_plan(EngineConfig(model=sys.argv[1]), assemble()))\n"
            "    await client.start()\n"
            "    print(client._child.process.pid, flush=True)\n"
            "    if sys.argv[2] == 'streaming':\n"
            "        params = SamplingParams(max_tokens=4000, ignore_eos=True)\n"
            "        request = EngineRequest(request_id='a', prompt_token_ids=[1], sampling=params)\n"
            "        await anext(client.generate(request))\n"
            "    os._exit(1)\n"
            "asyncio.run(main())\n"
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(script), str(checkpoint), moment, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        pid = int(await process.stdout.readline())
        await process.wait()
        return pid

    pid = asyncio.run(scenario())

    async def ended() -> bool:
        return gone(pid)

    asyncio.run(until(ended))
