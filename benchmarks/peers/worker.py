"""What is measured of an engine that runs in this process, the same for each. Standard library only.

A worker loads, measures, writes a JSON line per figure to standard output, and exits. It runs in the environment of its
peer, which has nothing of ours.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from .procs import cpu_seconds, peak_bytes, tree

THREADS = len(os.sched_getaffinity(0))
KV_BYTES = 1 << 30
BATCH, PROMPT, NEW_TOKENS = 32, 128, 128
LONG_PROMPT, STEPS, REPEATS = 1024, 64, 3
MAX_LENGTH = 4096


class Engine(Protocol):
    def generate(self, prompts: list[list[int]], new_tokens: int) -> None:
        """Completes each prompt greedily with exactly ``new_tokens`` tokens, and returns when all are done."""


@dataclass
class Worker:
    """Takes the measures of one engine."""

    engine: Engine
    draw: random.Random
    taken: set[str] = field(default_factory=set)

    def prompts(self, count: int, length: int) -> list[list[int]]:
        """Ids that stand for letters in every vocabulary; no two calls give the same."""
        return [[self.draw.randrange(1000, 8000) for _ in range(length)] for _ in range(count)]

    def timed(self, prompts: list[list[int]], new_tokens: int) -> tuple[float, float]:
        """Seconds that pass, and seconds of CPU time."""
        processes = tree(os.getpid())
        cpu, started = cpu_seconds(processes), time.perf_counter()
        self.engine.generate(prompts, new_tokens)
        return time.perf_counter() - started, cpu_seconds(processes) - cpu

    def step(self, length: int, steps: int = STEPS) -> tuple[float, float]:
        """Seconds of a decode step of one request, and of its CPU time: by difference, so that no prefill is in it."""
        prompt = self.prompts(1, length)
        prefill = self.timed(prompt, 1)
        whole = self.timed(self.prompts(1, length), 1 + steps)
        return (whole[0] - prefill[0]) / steps, (whole[1] - prefill[1]) / steps

    def decode(self) -> dict[str, float]:
        """Tokens a second of one request behind a prompt of 128."""
        seconds, cpu = medians([self.step(PROMPT) for _ in range(REPEATS)])
        return {"value": 1 / seconds, "cpu": cpu}

    def batch32(self) -> dict[str, float]:
        """Output tokens a second of 32 requests, 128 tokens in and 128 out, prefill included."""
        seconds, cpu = self.timed(self.prompts(BATCH, PROMPT), NEW_TOKENS)
        tokens = BATCH * NEW_TOKENS
        return {"value": tokens / seconds, "cpu": cpu / tokens}

    def prefill(self) -> dict[str, float]:
        """Prompt tokens a second until the first token of a prompt of 1,024."""
        seconds, cpu = medians([self.timed(self.prompts(1, LONG_PROMPT), 1) for _ in range(REPEATS)])
        return {"value": LONG_PROMPT / seconds, "cpu": cpu / LONG_PROMPT}

    def ttft(self) -> dict[str, float]:
        """Time to the first token of a prompt of 1,024 that was there before, in decode steps at that context."""
        warm = []
        for _ in range(REPEATS):
            prompt = self.prompts(1, LONG_PROMPT)
            self.engine.generate(prompt, 1)
            warm.append(self.timed(prompt, 1))
        seconds, cpu = medians(warm)
        step = self.step(LONG_PROMPT, STEPS // 2)[0]
        return {"value": seconds / step, "cpu": cpu, "ms": 1e3 * seconds, "step_ms": 1e3 * step}

    def memory(self) -> dict[str, float]:
        """GB at most, with the pool in use: behind a batch that fills it and a long prompt."""
        if "batch32" not in self.taken:
            self.engine.generate(self.prompts(BATCH, PROMPT), NEW_TOKENS)
        self.engine.generate(self.prompts(1, LONG_PROMPT), 1)
        return {"value": peak_bytes(tree(os.getpid())) / 1e9}

    def take(self, measure: str) -> dict[str, float]:
        taken: dict[str, Callable[[], dict[str, float]]] = {
            "decode": self.decode,
            "batch32": self.batch32,
            "prefill": self.prefill,
            "ttft": self.ttft,
            "memory": self.memory,
        }
        figure = taken[measure]()
        self.taken.add(measure)
        return figure


def medians(pairs: list[tuple[float, float]]) -> tuple[float, float]:
    first, second = zip(*pairs, strict=True)
    return statistics.median(first), statistics.median(second)


def tell(**figure: Any) -> None:
    print(json.dumps(figure), flush=True)


def main(load: Callable[[str, str], Engine]) -> None:
    """The program of a worker: ``load(model, weights)`` gives its engine."""
    args = arguments()
    worker = Worker(load(args.model, args.weights), random.Random(args.seed))
    worker.engine.generate(worker.prompts(2, 64), 8)
    for measure in args.measures:
        tell(measure=measure, **worker.take(measure))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="0.6b or 29m")
    parser.add_argument("--weights", required=True, help="the precision of the weights")
    parser.add_argument("--measures", nargs="+", required=True)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()
