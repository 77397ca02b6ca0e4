"""Comparisons of the engine with transformers, and of the engine with itself.

Every figure is made of medians; the two sides take turns, so that a noisy neighbour disturbs both. Prompts are random
token ids, decoding is greedy and never stops early.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers.generation.streamers import BaseStreamer

from openlathe import LLM, SamplingParams
from openlathe.engine.kv_cache import KVCacheManager
from openlathe.engine.messages import EngineRequest

from .shapes import QWEN3_0_6B
from .static_batch import StaticBatch

VOCAB = int(QWEN3_0_6B["vocab_size"])
draw = random.Random(0)


def prompt_ids(length: int) -> list[int]:
    return [draw.randrange(VOCAB) for _ in range(length)]


class Ours:
    """Drives the engine core step by step."""

    def __init__(self, path: str) -> None:
        self.llm = LLM(path, max_num_seqs=32, max_model_len=4096)
        self.core = self.llm._core
        self._names = iter(range(10**9))

    def step_times(self, prompts: list[list[int]], new_tokens: int) -> list[float]:
        """Seconds of each step until every prompt has ``new_tokens`` tokens."""
        for prompt in prompts:
            params = SamplingParams(temperature=0, max_tokens=new_tokens, ignore_eos=True)
            self.core.add(EngineRequest(request_id=str(next(self._names)), prompt_token_ids=prompt, sampling=params))
        times = []
        while self.core.scheduler.requests:
            started = time.perf_counter()
            self.core.step()
            times.append(time.perf_counter() - started)
        return times


class Clock(BaseStreamer):
    """Notes when transformers hands out each token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, value: Any) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        pass


class Theirs(StaticBatch):
    def step_times(self, prompt: list[int], new_tokens: int) -> list[float]:
        clock = Clock()
        self.generate([prompt], new_tokens, clock)
        return [after - before for before, after in zip(clock.times[1:], clock.times[2:], strict=False)]


def decode_alone(ours: Ours, theirs: Theirs, rounds: int) -> dict[str, float]:
    """One request, 128 tokens of prompt: seconds of a decode step."""
    mine, others = [], []
    for _ in range(rounds):
        prompt = prompt_ids(128)
        others += theirs.step_times(prompt, 33)
        mine += ours.step_times([prompt], 33)[1:]
    step, reference = statistics.median(mine), statistics.median(others)
    return {
        "openlathe tok/s": 1 / step,
        "transformers tok/s": 1 / reference,
        "ratio (at least 1.7)": reference / step,
    }


def batch_of_32(ours: Ours, theirs: Theirs, rounds: int) -> dict[str, float]:
    """32 requests of 128 tokens in and 64 out, prefill included: output tokens per second."""
    mine, others = [], []
    for _ in range(rounds):
        prompts = [prompt_ids(128) for _ in range(32)]
        started = time.perf_counter()
        theirs.generate(prompts, 64)
        others.append(time.perf_counter() - started)
        mine.append(sum(ours.step_times(prompts, 64)))
    tokens = 32 * 64
    return {
        "openlathe tok/s": tokens / statistics.median(mine),
        "transformers static batch tok/s": tokens / statistics.median(others),
        "ratio (at least 1.5)": statistics.median(others) / statistics.median(mine),
    }


def repeated_prompt(ours: Ours, rounds: int) -> dict[str, float]:
    """A prompt of 1,024 tokens, again: time to its first token in decode steps at the same context."""
    cold, warm, decode = [], [], []
    for _ in range(rounds):
        prompt = prompt_ids(1024)
        cold.append(sum(ours.step_times([prompt], 1)))
        for _ in range(3):
            warm.append(sum(ours.step_times([prompt], 1)))
        decode += ours.step_times([prompt], 9)[1:]
    first, step = statistics.median(warm), statistics.median(decode)
    return {
        "cold ms": statistics.median(cold) * 1e3,
        "warm ms": first * 1e3,
        "cold / warm": statistics.median(cold) / first,
        "warm in decode steps (at most 3)": first / step,
    }


def prefix_cache_cost(ours: Ours) -> dict[str, float]:
    """CPU time inside the prefix cache where nothing ever hits, as a share of the run."""
    with timed_methods(KVCacheManager, "find_prefix", "publish") as spent:
        started = time.process_time()
        ours.step_times([prompt_ids(512) for _ in range(16)], 16)
        whole = time.process_time() - started
    return {"prefix cache ms": spent() * 1e3, "run CPU ms": whole * 1e3, "percent (at most 1)": 100 * spent() / whole}


@contextmanager
def timed_methods(owner: type, *names: str) -> Iterator[Callable[[], float]]:
    """Counts the CPU seconds of this thread inside the named methods while the block runs."""
    total = 0.0
    originals = {name: getattr(owner, name) for name in names}

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any) -> Any:
            nonlocal total
            started = time.thread_time()
            result = method(*args)
            total += time.thread_time() - started
            return result

        return wrapper

    for name, method in originals.items():
        setattr(owner, name, timed(method))
    try:
        yield lambda: total
    finally:
        for name, method in originals.items():
            setattr(owner, name, method)
