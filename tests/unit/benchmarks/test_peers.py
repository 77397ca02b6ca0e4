"""The comparison with other engines: what is measured again, how figures become ratios, and the client's arithmetic."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.peers import load, runner
from benchmarks.peers.plot import plot
from benchmarks.peers.procs import cpu_seconds, peak_bytes, resident, tree
from benchmarks.peers.results import BANDWIDTH, MACHINE, Results, ratio, share_of_bandwidth
from benchmarks.peers.rows import LLAMA, OPENVINO, OURS, ROWS, VLLM
from benchmarks.peers.runner import Residency, plan, run
from benchmarks.peers.table import table
from benchmarks.peers.worker import Worker

DECODE, START, HTTP = ROWS["decode-bf16"], ROWS["start"], ROWS["http-8"]


@pytest.fixture
def results(tmp_path: Path) -> Results:
    made = Results(tmp_path / "results.json")
    made.runs.append(
        {"date": "2026-01-01", "cpu": "a", "threads": 2, "memory_gb": 8, "python": "3.11", "versions": {"vllm": "1"}}
    )
    return made


def fill(results: Results, row: str, variant: Any, *values: float, figure: str = "value") -> None:
    for number, value in enumerate(values):
        results.add(row, str(variant), number, {figure: value})


def test_a_ratio_is_the_median_of_those_within_rounds(results: Results) -> None:
    fill(results, DECODE.name, OURS["bf16"], 10, 40, 30)
    fill(results, DECODE.name, OPENVINO["bf16"], 10, 20, 10)

    found = ratio(results, DECODE, OPENVINO["bf16"])

    assert found is not None
    assert (found.spread.least, found.spread.median, found.spread.most, found.pairs) == (1, 2, 3, 3)


def test_less_is_better_where_the_row_or_the_figure_says_so(results: Results) -> None:
    fill(results, START.name, OURS["bf16"], 2)
    fill(results, START.name, LLAMA["bf16"], 3)
    fill(results, HTTP.name, OURS["bf16"], 10, figure="ttft_ms")
    fill(results, HTTP.name, VLLM, 40, figure="ttft_ms")

    assert (found := ratio(results, START, LLAMA["bf16"]))
    assert found.spread.median == 1.5
    assert (found := ratio(results, HTTP, VLLM, "ttft_ms"))
    assert found.spread.median == 4


def test_figures_of_different_runs_are_compared_by_their_medians_and_marked(results: Results) -> None:
    fill(results, DECODE.name, OURS["bf16"], 10, 20, 90)
    results.runs.append(results.runs[0])
    fill(results, DECODE.name, OPENVINO["bf16"], 10, 10, 10)

    assert (found := ratio(results, DECODE, OPENVINO["bf16"]))
    assert (found.spread.median, found.pairs) == (2, 0)
    assert "not interleaved" in table(results)


def test_without_one_of_the_two_there_is_no_ratio(results: Results) -> None:
    fill(results, DECODE.name, OURS["bf16"], 10)

    assert ratio(results, DECODE, OPENVINO["bf16"]) is None
    assert share_of_bandwidth(results, DECODE) is None


def test_the_share_of_the_bandwidth_is_that_of_the_same_round(results: Results) -> None:
    row = replace(DECODE, weight_bytes=2e9)
    fill(results, row.name, OURS["bf16"], 10, 20)
    fill(results, BANDWIDTH, MACHINE, 40, 50)

    assert (found := share_of_bandwidth(results, row))
    assert (found.spread.least, found.spread.most) == (0.5, 0.8)


def test_the_table_says_what_is_reached(results: Results) -> None:
    fill(results, DECODE.name, OURS["bf16"], 20)
    fill(results, DECODE.name, OPENVINO["bf16"], 10)
    fill(results, START.name, OURS["bf16"], 3)
    fill(results, START.name, LLAMA["bf16"], 1)
    fill(results, "ttft", OURS["bf16"], 1.2)

    lines = table(results).splitlines()

    assert f"| {DECODE.title} | openvino-bf16 | 2.00 (2.00 to 2.00) | 1 | 1 | yes |" in lines
    assert f"| {START.title} | llamacpp-bf16 | 0.33 (0.33 to 0.33) | 1 | 1 | no |" in lines
    assert f"| {ROWS['ttft'].title} | itself | 1.20 (1.20 to 1.20) decode steps | 1 | at most 1.3 | yes |" in lines


def test_an_empty_file_gives_an_empty_table(tmp_path: Path) -> None:
    assert table(Results.load(tmp_path / "none.json")) == "\n"


def test_the_plot_has_a_bar_for_each_ratio(results: Results) -> None:
    fill(results, DECODE.name, OURS["bf16"], 20)
    fill(results, DECODE.name, OPENVINO["bf16"], 10)
    fill(results, HTTP.name, OURS["bf16"], 1)
    fill(results, HTTP.name, VLLM, 2)

    root = ElementTree.fromstring(plot(results))

    assert len([found for found in root if found.tag.endswith("rect")]) == 1 + 2


def test_only_whom_something_is_claimed_against_takes_part_unless_all_do() -> None:
    few, every = plan([DECODE], runner.PYTHONS, False), plan([DECODE], runner.PYTHONS, True)

    assert [stay.variant for stay in few] == [OURS["bf16"], OPENVINO["bf16"]]
    assert [stay.variant.engine for stay in every] == ["openlathe", "openvino", "vllm", "llamacpp", "transformers"]
    assert list(plan([DECODE], ["vllm"], True)) == [Residency(VLLM, "0.6b", "process")]


def test_rows_of_one_residency_share_it() -> None:
    stays = plan(ROWS.values(), ["openlathe"], False)

    names = {str(stay): [row.name for row in rows] for stay, rows in stays.items()}

    assert names["openlathe-bf16 0.6b process"] == ["decode-bf16", "batch32-bf16", "prefill-bf16", "ttft", "memory"]
    assert names["openlathe-bf16 0.6b server"] == ["start", "http-8"]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, int]]:
    """Engines that answer at once: who was asked, in which round."""
    asked: list[tuple[str, int]] = []

    def figures(stay: Residency, rows: list[Any], seed: int) -> Iterator[tuple[str, dict[str, float]]]:
        asked.append((str(stay.variant), seed))
        if stay.variant == LLAMA["bf16"]:
            raise runner.Failed("llamacpp is not installed")
        for row in rows:
            yield row.name, {"value": 1.0}

    monkeypatch.setattr(runner, "figures", figures)
    monkeypatch.setattr(runner, "bandwidth", lambda: 40.0)
    monkeypatch.setattr(runner, "LOGS", tmp_path)
    monkeypatch.setattr(runner, "describe", lambda: {"date": "today"})
    return asked


def test_rounds_interleave_and_begin_with_another_engine_each(results: Results, taken: list[tuple[str, int]]) -> None:
    run(results, plan([DECODE], runner.PYTHONS, False), rounds=2)

    ours, theirs = "openlathe-bf16", "openvino-bf16"
    assert taken == [(ours, 0), (theirs, 0), (theirs, 1), (ours, 1)]
    assert len(results.of(BANDWIDTH, MACHINE)) == 2


def test_what_is_measured_is_not_measured_again(results: Results, taken: list[tuple[str, int]]) -> None:
    run(results, plan([DECODE], ["openlathe"], False), rounds=1)
    taken.clear()
    again = Results.load(results.path)

    run(again, plan([DECODE], runner.PYTHONS, False), rounds=2)

    assert [variant for variant, number in taken if number == 0] == ["openvino-bf16"]
    assert len([variant for variant, number in taken if number == 1]) == 2
    assert Results.load(results.path).figures == again.figures


def test_an_engine_that_fails_stops_nobody(results: Results, taken: list[tuple[str, int]]) -> None:
    problems = run(results, plan([START], runner.PYTHONS, True), rounds=1)

    assert problems == ["round 1: llamacpp is not installed"]
    assert results.variants("start") == ["openlathe-bf16", "vllm-bf16"]


def test_a_worker_measures_by_what_it_asks_of_its_engine() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.calls: list[tuple[int, int, int]] = []

        def generate(self, prompts: list[list[int]], new_tokens: int) -> None:
            self.calls.append((len(prompts), len(prompts[0]), new_tokens))

    engine = Recorder()
    worker = Worker(engine, random.Random(0))

    worker.take("batch32")
    worker.take("memory")
    assert engine.calls == [(32, 128, 128), (1, 1024, 1)]

    engine.calls.clear()
    worker.take("decode")
    assert engine.calls == [(1, 128, 1), (1, 128, 65)] * 3


def test_a_worker_runs_without_anything_of_ours() -> None:
    """The environments of peers have no distribution of this repository."""
    code = "import sys; import benchmarks.peers.worker; print(sorted(n for n in sys.modules if 'openlathe' in n))"
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=runner.paths.ROOT, capture_output=True, check=True)

    assert done.stdout.strip() == b"[]"


def test_a_process_is_counted_with_its_children_and_gone_behind_its_block(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c',"
        " 'import time; data = bytes(range(256)) * 2**18; print(1, flush=True); time.sleep(60)']);"
        " child.wait()"
    )
    command = [sys.executable, "-c", code]
    with (
        (tmp_path / "log").open("w") as log,
        resident(command, tmp_path, dict(os.environ), log, subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        processes = tree(process.pid)
        assert len(processes) == 2
        assert peak_bytes(processes) > 2**26
        assert cpu_seconds(processes) > 0
    assert tree(process.pid) == [process.pid]
    assert peak_bytes(processes) == 0


def answer(tokens: int) -> bytes:
    """A stream as OpenAI's API words it: a chunk for each token, then the usage."""
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "text": "a"}]}] * tokens
    chunks.append({"choices": [], "usage": {"prompt_tokens": 128, "completion_tokens": tokens}})
    events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{events}data: [DONE]\n\n".encode()


async def loaded(reply: bytes, requests: int = 6) -> tuple[dict[str, float], list[dict[str, Any]]]:
    bodies: list[dict[str, Any]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        bodies.append(json.loads(await reader.readexactly(length)))
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, load.HOST, 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        return await load.load(port, 2, requests, random.Random(0), load.NEW_TOKENS), bodies


def test_the_client_sends_each_request_once_and_counts_their_tokens() -> None:
    figure, bodies = asyncio.run(loaded(answer(load.NEW_TOKENS)))

    assert len({tuple(body["prompt"]) for body in bodies}) == 6
    assert all(len(body["prompt"]) == load.PROMPT and body["ignore_eos"] for body in bodies)
    assert figure["tokens_per_second"] == pytest.approx(figure["value"] * load.NEW_TOKENS)
    assert figure["ttft_ms"] > 0


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (answer(3), "64 tokens were asked for"),
        (b"HTTP/1.1 503 Loading\r\n\r\n", "503"),
        (b"HTTP/1.1 200 OK\r\n\r\ndata: [DONE]\n\n", "no completion"),
        (b"", "closed"),
    ],
)
def test_the_client_refuses_what_is_no_full_completion(reply: bytes, reason: str) -> None:
    with pytest.raises(load.Refused, match=reason):
        asyncio.run(loaded(reply))
