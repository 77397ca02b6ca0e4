"""A decode step against the sum of its parts: the linear layers, and keys and values at the speed of the memory.

Both parts are measured between the steps that they are compared with, in the engine's own thread.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from openlathe_plugin_cpu.memory import packed_memory

from openlathe import LLM, SamplingParams
from openlathe.engine.core import EngineCore
from openlathe.engine.messages import EngineRequest
from openlathe.layers.linear import Linear

from .engine import prompt_ids
from .shapes import QWEN3_0_6B, qwen3_0_6b

#: (requests, tokens of context of each)
STEPS = ((64, 1024), (16, 4096))
#: Tokens that requests grow by, at most, while later prompts are computed and while steps are measured.
GROWTH = 128
#: Bytes of the keys and values of a token, in bfloat16.
TOKEN_BYTES = 4 * QWEN3_0_6B["num_hidden_layers"] * QWEN3_0_6B["num_key_value_heads"] * QWEN3_0_6B["head_dim"]
#: What is read to see how fast the memory is.
READ_BYTES = 1 << 30


def step_parts(rounds: int) -> dict[str, float]:
    """Milliseconds of a decode step and of its parts, medians of ``5 * rounds`` steps; and step over parts."""
    llm = LLM(
        str(qwen3_0_6b()),
        max_num_seqs=max(requests for requests, _ in STEPS),
        max_model_len=8192,
        kv_cache_memory_bytes=TOKEN_BYTES * max(requests * (tokens + GROWTH) for requests, tokens in STEPS),
        enable_prefix_caching=False,
        async_scheduling=False,
    )
    memory = packed_memory(READ_BYTES).view(torch.float32).fill_(1)
    figures: dict[str, float] = {}
    for requests, tokens in STEPS:
        steps, linears, reads = [], [], []
        multiply = linear_layers(llm._core, requests)
        for cached in decoding(llm._core, requests, tokens, 5 * rounds):
            steps.append(seconds(llm._core.step))
            linears.append(in_its_thread(llm._core, multiply))
            reads.append(in_its_thread(llm._core, memory.sum) * cached * TOKEN_BYTES / READ_BYTES)
        step, linear, read = (1e3 * statistics.median(times) for times in (steps, linears, reads))
        figures |= {
            f"{requests} x {tokens}: step ms": step,
            f"{requests} x {tokens}: linear layers ms": linear,
            f"{requests} x {tokens}: reading keys and values ms": read,
            f"{requests} x {tokens}: step / parts (at most 1.2)": step / (linear + read),
        }
    return figures


def decoding(core: EngineCore, requests: int, tokens: int, steps: int) -> Iterator[int]:
    """Before each of so many steps in which all of the requests decode: the tokens that they have in the cache."""
    names = [f"{tokens}-{index}" for index in range(requests)]
    sampling = SamplingParams(temperature=0, max_tokens=GROWTH, ignore_eos=True)
    for name in names:
        core.add(EngineRequest(request_id=name, prompt_token_ids=prompt_ids(tokens), sampling=sampling))
    while len(core.step().outputs) < requests:
        pass
    for _ in range(steps):
        assert len(core.scheduler.requests) == requests, f"they have ended; more than {GROWTH} tokens would be needed"
        yield sum(request.num_computed_tokens for request in core.scheduler.requests.values())
    core.abort(names)


def linear_layers(core: EngineCore, rows: int) -> Callable[[], None]:
    """What multiplies ``rows`` tokens by every linear layer once, in the order of a step."""
    executor: Any = core.executor
    layers = [layer for layer in executor._runner.model.modules() if isinstance(layer, Linear)]
    inputs = {width: torch.ones(rows, width, dtype=torch.bfloat16) for width in {x.in_features for x in layers}}

    @torch.inference_mode()
    def multiply() -> None:
        for layer in layers:
            layer(inputs[layer.in_features])

    return multiply


def in_its_thread(core: EngineCore, work: Callable[[], Any]) -> float:
    """Seconds of ``work`` in the thread that runs the model, with that thread's helpers."""
    executor: Any = core.executor
    return float(executor._thread.submit(seconds, work).result())


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
