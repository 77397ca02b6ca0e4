"""``make bench``: the engine against transformers on one machine in one run; what the machine allows comes first."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import torch

from .engine import Ours, Theirs, batch_of_32, decode_alone, prefix_cache_cost, prompt_ids, repeated_prompt
from .host import host_work
from .listing import listing
from .modes import IMPLEMENTATIONS, modes
from .parsers import parsers
from .serving import serving
from .shapes import qwen3_0_6b
from .sharing import forks
from .step_parts import step_parts


def read_bandwidth() -> float:
    """GB/s of summing 1 GiB of float32, the median of five: what decoding alone is bound by."""
    data = torch.ones(1 << 28)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        data.sum()
        seconds.append(time.perf_counter() - started)
    return data.nbytes / statistics.median(seconds) / 1e9


def machine() -> dict[str, Any]:
    with open("/proc/cpuinfo") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "threads": torch.get_num_threads(),
        "read GB/s": round(read_bandwidth(), 1),
        **{name: version(name) for name in ("openlathe-core", "torch", "transformers")},
        "date": time.strftime("%Y-%m-%d"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each comparison is repeated")
    parser.add_argument("--only", nargs="*", help="names of comparisons to run")
    parser.add_argument("--json", metavar="FILE", help="also write the figures there")
    args = parser.parse_args()
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    path = str(qwen3_0_6b())
    ours, theirs = Ours(path), Theirs(path)
    ours.step_times([prompt_ids(64)], 4)
    theirs.generate([prompt_ids(64)], 4)
    comparisons: dict[str, Callable[[], dict[str, float]]] = {
        "decode-alone": lambda: decode_alone(ours, theirs, args.rounds),
        "batch-of-32": lambda: batch_of_32(ours, theirs, args.rounds),
        "repeated-prompt": lambda: repeated_prompt(ours, args.rounds),
        "prefix-cache-cost": lambda: prefix_cache_cost(ours),
        "forks": lambda: forks(ours),
        "host-work": lambda: host_work(args.rounds),
        "serving": lambda: serving(args.rounds),
        "step-parts": lambda: step_parts(args.rounds),
        "modes": lambda: modes(args.rounds),
        "implementations": lambda: modes(args.rounds, IMPLEMENTATIONS),
        "parsers": lambda: parsers(args.rounds),
        "listing": lambda: listing(args.rounds),
    }
    report: dict[str, Any] = {"machine": machine()}
    print(json.dumps(report["machine"]))
    for name, compare in comparisons.items():
        if args.only and name not in args.only:
            continue
        report[name] = compare()
        print(f"\n{name}")
        for label, value in report[name].items():
            print(f"  {label:36} {value:10.2f}")
    if args.json:
        with open(args.json, "w") as file:
            json.dump(report, file, indent=2)


if __name__ == "__main__":
    main()
