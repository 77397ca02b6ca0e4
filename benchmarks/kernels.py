"""``python -m benchmarks.kernels``: native operators against those on plain torch, and against the memory.

Shapes are Qwen3-0.6B's. The providers take turns, each over so many copies of its data that the caches do not hold
them; the machine is shared, so that the quickest of many rounds says most. Ratios above one mean that native is faster.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from openlathe_plugin_cpu.memory import packed_memory
from openlathe_plugin_int4.rounding import rounded as four_bits
from openlathe_plugin_int8.method import rounded as eight_bits
from torch import Tensor

from openlathe.engine.kv_memory import PagedGroup, allocate_pages
from openlathe.kernels.attend import AttendPlan
from openlathe.kernels.draw import Filters
from openlathe.kernels.pages import PLAIN_LAYOUTS, layout_of
from openlathe.kernels.silu_mul import silu_mul
from openlathe.plugins.resolve import load
from openlathe.spi import FullKV, KVPages

#: Bytes that operators read in turn: a multiple of the last level of any cache here.
COLD_BYTES = 192 << 20
HEADS, KV_HEADS, DIM, HIDDEN, INNER = 16, 8, 128, 1024, 3072
VOCABULARY = 151_936
PAGE = 16
HEAD = FullKV(kv_heads=KV_HEADS, dim_k=DIM, dim_v=DIM)
REPEATS = 50

ROWS = (1, 4, 16, 32, 64, 256, 1024)

Run = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """``make`` turns a provider's function into one call over all copies, which reads ``nbytes``."""

    operator: str
    label: str
    nbytes: int
    copies: int
    make: Callable[[Callable[..., Any]], Run]


def linears(dtype: torch.dtype) -> Iterator[Case]:
    for rows in ROWS:
        for outputs, inputs in ((2 * INNER, HIDDEN), (HIDDEN, INNER)):
            size = outputs * inputs * dtype.itemsize
            copies = max(1, COLD_BYTES // size) if rows <= 64 else 2

            def make(
                linear: Callable[..., Any],
                rows: int = rows,
                outputs: int = outputs,
                inputs: int = inputs,
                copies: int = copies,
            ) -> Run:
                layers = [linear(torch.randn(outputs, inputs).to(dtype) / inputs**0.5, None) for _ in range(copies)]
                x = torch.randn(rows, inputs).to(dtype)
                return lambda: [layer(x) for layer in layers]

            yield Case("linear", f"{rows} x {inputs} -> {outputs}", copies * size, copies, make)


def gated_linears(dtype: torch.dtype) -> Iterator[Case]:
    """The projections to gates and values with the gate behind them."""
    for rows in ROWS:
        size = 2 * INNER * HIDDEN * dtype.itemsize
        copies = max(1, COLD_BYTES // size) if rows <= 64 else 2

        def make(linear: Callable[..., Any], rows: int = rows, copies: int = copies) -> Run:
            weights = (torch.randn(2 * INNER, HIDDEN).to(dtype) / HIDDEN**0.5 for _ in range(copies))
            layers = [linear(weight, None, silu_mul) for weight in weights]
            x = torch.randn(rows, HIDDEN).to(dtype)
            return lambda: [layer(x) for layer in layers]

        yield Case("linear", f"{rows} x {HIDDEN} -> {INNER} gated", copies * size, copies, make)


#: Operators on rounded weights: bits of a weight with its scales, and what packs one.
ROUNDED: dict[str, tuple[float, Callable[[Callable[..., Any], Tensor], Any]]] = {
    "int8_linear": (8, lambda pack, weight: pack(*eight_bits(weight))),
    "int4_linear": (4.375, lambda pack, weight: pack(*four_bits(weight, 64))),
}


def rounded_linears(operator: str) -> Callable[[torch.dtype], Iterator[Case]]:
    """Rounded weights on the native operator, against torch with the weights as they were."""
    bits, packed = ROUNDED[operator]

    def cases(dtype: torch.dtype) -> Iterator[Case]:
        for rows in ROWS:
            for outputs, inputs in ((2 * INNER, HIDDEN), (HIDDEN, INNER)):
                size = int(outputs * inputs * bits / 8)
                copies = max(1, COLD_BYTES // size) if rows <= 64 else 2

                def make(
                    function: Callable[..., Any],
                    rows: int = rows,
                    outputs: int = outputs,
                    inputs: int = inputs,
                    copies: int = copies,
                ) -> Run:
                    weight, x = torch.randn(outputs, inputs).to(dtype), torch.randn(rows, inputs).to(dtype)
                    if function.__name__ == operator:
                        layers = [packed(function, weight) for _ in range(copies)]
                    else:
                        layers = [function(weight.clone(), None) for _ in range(copies)]
                    return lambda: [layer(x) for layer in layers]

                yield Case(operator, f"{rows} x {inputs} -> {outputs}", copies * size, copies, make)

    return cases


def mixtures(dtype: torch.dtype) -> Iterator[Case]:
    """Experts of which each token chooses some; what is read are the matrices of the chosen ones."""
    count, top_k, inner = 32, 4, 512
    for tokens in (1, 16, 256):
        generator = torch.Generator().manual_seed(0)
        weights, chosen = torch.rand(tokens, count, generator=generator).softmax(-1).topk(top_k)
        size = 3 * len(chosen.unique()) * HIDDEN * inner * dtype.itemsize
        copies = max(1, COLD_BYTES // (3 * count * HIDDEN * inner * dtype.itemsize))

        def make(
            experts: Callable[..., Any],
            tokens: int = tokens,
            weights: Tensor = weights,
            chosen: Tensor = chosen,
            copies: int = copies,
        ) -> Run:
            layers = [
                experts(
                    torch.randn(count, 2 * inner, HIDDEN).to(dtype) / HIDDEN**0.5,
                    torch.randn(count, HIDDEN, inner).to(dtype) / inner**0.5,
                    silu_mul,
                )
                for _ in range(copies)
            ]
            x = torch.randn(tokens, HIDDEN).to(dtype)
            return lambda: [layer(x, chosen, weights) for layer in layers]

        yield Case("experts", f"{tokens} to {top_k} of {count}", copies * size, copies, make)


#: (requests, tokens of each in the step, keys of each): decoding, prompts, a chunk behind others.
STEPS = ((1, 1, 128), (1, 1, 4096), (32, 1, 512), (16, 1, 4096), (1, 128, 128), (1, 1024, 1024), (1, 256, 4096))


def attentions(dtype: torch.dtype) -> Iterator[Case]:
    for requests, queries, keys in STEPS:
        blocks = -(-keys // PAGE)
        size = 2 * requests * keys * KV_HEADS * DIM * dtype.itemsize
        copies = max(1, min(28, COLD_BYTES // size)) if queries == 1 else 1

        def make(
            attend: Callable[..., Any],
            requests: int = requests,
            queries: int = queries,
            keys: int = keys,
            blocks: int = blocks,
            copies: int = copies,
        ) -> Run:
            table = torch.randperm(requests * blocks).view(requests, blocks).int()
            starts = np.arange(requests + 1, dtype=np.int32) * queries
            # each in the pages it likes best, where the engine would have them
            layout = layout_of(getattr(attend, "layouts", PLAIN_LAYOUTS)[0], HEAD, PAGE, dtype)
            group = PagedGroup(0, HEAD, tuple(range(copies)))
            cpu = torch.device("cpu")
            layers = list(allocate_pages([group], [layout], requests * blocks, dtype, cpu).values())
            for page in chain.from_iterable(layers):
                page.normal_()
            q = torch.randn(requests * queries, HEADS, DIM).to(dtype)

            def run() -> None:
                plan = AttendPlan(
                    query_start=starts,
                    seq_lens_bound=np.full(requests, keys, dtype=np.int32),
                    query_start_device=torch.from_numpy(starts),
                    seq_lens=torch.full((requests,), keys, dtype=torch.int32),
                    block_table=table,
                    block_size=PAGE,
                    layout=layout.name,
                )
                for pages in layers:
                    attend(q, pages, plan, scale=DIM**-0.5)

            return run

        yield Case("attend", f"{requests} x {queries} of {keys}", copies * size, copies, make)


def small(operator: str, arguments: Callable[[int, torch.dtype], tuple[Any, ...]]) -> Callable[..., Iterator[Case]]:
    """Operators whose data stays in the cache: what counts are the call and the number of passes."""

    def cases(dtype: torch.dtype) -> Iterator[Case]:
        for rows in (1, 32, 1024):

            def make(function: Callable[..., Any], rows: int = rows) -> Run:
                given, calls = arguments(rows, dtype), range(REPEATS)
                return lambda: [function(*given) for _ in calls]

            nbytes = sum(x.nbytes for x in arguments(rows, dtype) if isinstance(x, Tensor))
            yield Case(operator, f"{rows} rows", REPEATS * nbytes, REPEATS, make)

    return cases


def normed(rows: int, dtype: torch.dtype) -> tuple[Any, ...]:
    return torch.randn(rows, HIDDEN).to(dtype), torch.ones(HIDDEN, dtype=dtype), 1e-6


def normed_heads(rows: int, dtype: torch.dtype) -> tuple[Any, ...]:
    fused = torch.randn(rows, HEADS + 2 * KV_HEADS, DIM).to(dtype)
    return fused[:, :HEADS], torch.ones(DIM, dtype=dtype), 1e-6


def added(rows: int, dtype: torch.dtype) -> tuple[Any, ...]:
    x, weight, eps = normed(rows, dtype)
    return torch.zeros_like(x), x, weight, eps


def gated(rows: int, dtype: torch.dtype) -> tuple[Any, ...]:
    return (torch.randn(rows, 2 * INNER).to(dtype),)


def turned(rows: int, dtype: torch.dtype) -> tuple[Any, ...]:
    q, k = (torch.randn(rows, heads, DIM).to(dtype) for heads in (HEADS, KV_HEADS))
    return torch.randint(4096, (rows,)), q, k, torch.randn(4096, DIM)


def written(rows: int, dtype: torch.dtype) -> tuple[Any, ...]:
    pages = KVPages(*(torch.zeros(128, KV_HEADS, PAGE, DIM, dtype=dtype) for _ in range(2)))
    k, v = (torch.randn(rows, KV_HEADS, DIM).to(dtype) for _ in range(2))
    return k, v, pages, torch.randperm(128 * PAGE)[:rows], "hnd"


#: What of a distribution is left to draw from: temperature, top-k, top-p, min-p.
DRAWS = {
    "temperature": (0.7, 0, 1.0, 0.0),
    "top-k 50": (1.0, 50, 1.0, 0.0),
    "top-k 20, top-p 0.95": (0.6, 20, 0.95, 0.0),
    "top-p 0.95": (1.0, 0, 0.95, 0.0),
    "min-p 0.05": (1.0, 0, 1.0, 0.05),
}


def draws(dtype: torch.dtype) -> Iterator[Case]:
    """Tokens of Qwen3's vocabulary, from peaked distributions and from flat ones."""
    for rows in (1, 32):
        for spread in (3.0, 0.3):
            scores = (torch.randn(rows, VOCABULARY) * spread).to(dtype)
            for label, (temperature, top_k, top_p, min_p) in DRAWS.items():
                arguments = (
                    scores,
                    np.full(rows, temperature, np.float32),
                    Filters(top_k=np.full(rows, top_k), top_p=np.full(rows, top_p), min_p=np.full(rows, min_p)),
                    np.random.default_rng(0).random(rows),
                )

                def make(draw: Callable[..., Any], arguments: tuple[Any, ...] = arguments) -> Run:
                    return lambda: draw(*arguments)

                yield Case("draw", f"{rows} x {label}, {'peaked' if spread > 1 else 'flat'}", scores.nbytes, 1, make)


CASES: dict[str, Callable[[torch.dtype], Iterator[Case]]] = {
    "linear": linears,
    **{operator: rounded_linears(operator) for operator in ROUNDED},
    "gated linear": gated_linears,
    "experts": mixtures,
    "attend": attentions,
    "rms_norm": small("rms_norm", normed),
    "head norms": small("rms_norm", normed_heads),
    "add_rms_norm": small("add_rms_norm", added),
    "rotary": small("rotary", turned),
    "silu_mul": small("silu_mul", gated),
    "gelu_mul": small("gelu_mul", gated),
    "write_kv": small("write_kv", written),
    "draw": draws,
}
MODULES = {
    "linear": "linear",
    "int8_linear": "int8_linear",
    "int4_linear": "int4_linear",
    "experts": "experts",
    "attend": "attend",
    "rms_norm": "norms",
    "add_rms_norm": "norms",
    "rotary": "rotary",
    "silu_mul": "gates",
    "gelu_mul": "gates",
    "write_kv": "write_kv",
    "draw": "tokens",
}
PROVIDERS = {"torch": "openlathe_plugin_torch", "native": "openlathe_plugin_cpu"}
#: Where nobody has one on torch, the definition is.
REFERENCES = {"draw": "openlathe.kernels.draw:draw"}


def seconds(run: Run) -> float:
    """On one thread the time that it had a core, which others who want one do not lengthen."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    run()
    return clock() - started


def measure(case: Case, rounds: int, memory: Tensor) -> dict[str, float]:
    """Milliseconds of one call, the quickest and the median; and how fast memory was read in the same rounds."""
    runs = {}
    for name, package in PROVIDERS.items():
        operator = "linear" if name == "torch" and case.operator in ROUNDED else case.operator
        target = f"{package}.{MODULES[operator]}:{operator}"
        runs[name] = case.make(load(REFERENCES.get(operator, target) if name == "torch" else target))
    times: dict[str, list[float]] = {name: [] for name in (*runs, "memory")}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(seconds(run))
        times["memory"].append(seconds(memory.sum))
    figures = {f"{name} ms": 1e3 * min(times[name]) / case.copies for name in runs}
    figures["ratio"] = min(times["torch"]) / min(times["native"])
    figures["median ratio"] = statistics.median(times["torch"]) / statistics.median(times["native"])
    figures["GB/s"] = case.nbytes / min(times["native"]) / 1e9
    figures["of memory"] = figures["GB/s"] / (memory.nbytes / min(times["memory"]) / 1e9)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each case is repeated")
    parser.add_argument("--only", nargs="*", choices=sorted(CASES), help="operators to measure")
    parser.add_argument("--dtype", nargs="*", default=["bfloat16", "float32"])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    memory = packed_memory(COLD_BYTES).view(torch.float32).fill_(1)  # in large pages, which are read fastest
    with torch.inference_mode():
        for operator in args.only or CASES:
            for dtype in args.dtype:
                print(f"\n{operator}, {dtype}")
                for case in CASES[operator](getattr(torch, dtype)):
                    figures = measure(case, args.rounds, memory)
                    print(f"  {case.label:28}" + "  ".join(f"{name} {value:.3g}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
