"""``core bench startup``: how long a server takes to be ready, and to its first token."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

from openlathe.api import assemble, locate, make_plan, say

from .bench_latency import PERCENTILES
from .datasets import random_ids
from .figures import mean, percent, percentile
from .flags import add_engine, add_refusals, add_results, at_least, check_room, engine_config
from .own_server import StartUp, time_start
from .page_cache import files_of, forget, read
from .plot import check_plot, plot_shares
from .report import write_json

USAGE = "core bench startup --model MODEL [flags]"
COLD, WARM = "cold", "warm"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("startup")
    count = at_least(0)
    group.add_argument(
        "--num-iters-cold", type=count, default=3, metavar="N", help="starts with the model's files on disk alone [3]"
    )
    group.add_argument("--num-iters-warmup", type=count, default=1, metavar="N", help="warm starts, uncounted [1]")
    group.add_argument("--num-iters-warm", type=count, default=3, metavar="N", help="starts with them in memory [3]")
    group.add_argument("--input-len", type=at_least(1), default=32, metavar="N", help="tokens of the prompt [32]")
    add_results(group, plot="the share of starts by their time")
    add_engine(parser)
    add_refusals(parser)


def run(args: argparse.Namespace) -> int:
    check_plot(args.plot)
    config = engine_config(args)
    registry = assemble(args.policy)
    plan = make_plan(config, registry, model_path=locate(str(config.model), config, registry))
    check_room(config, args.input_len + 1, plan.max_model_len)
    prompt = random_ids(random.Random(config.seed), plan.model_config().vocab_size, args.input_len)
    files = files_of(plan.model_path)
    starts: dict[str, list[StartUp]] = {COLD: [], WARM: []}
    rounds = [COLD] * args.num_iters_cold + ["warmup"] * args.num_iters_warmup + [WARM] * args.num_iters_warm
    for kind in tqdm(rounds, desc="Starts", disable=not sys.stderr.isatty()):
        forget(files) if kind == COLD else read(files)
        started = time_start(config, args.policy, prompt)
        if kind in starts:
            starts[kind].append(started)
    figures: dict[str, Any] = {}
    for kind, found in starts.items():
        if found:
            figures |= _figures(kind, "startup", [one.ready for one in found])
            figures |= _figures(kind, "first_token", [one.first_token for one in found])
    write_json(args.output_json, figures)
    if args.plot is not None:
        panels = {f"{kind}: {title}": figures.get(f"{kind}_{name}_times", ()) for kind, name, title in _PANELS}
        plot_shares(args.plot, panels, "s")
    return 0


_TITLES = {"startup": "until ready", "first_token": "until the first token"}
_PANELS = [(kind, name, title) for kind in (COLD, WARM) for name, title in _TITLES.items()]


def _figures(kind: str, name: str, seconds: Sequence[float]) -> dict[str, Any]:
    """By the names that vLLM has for start-up times; shown as they are made."""
    shares = {percent(share): percentile(seconds, share) for share in PERCENTILES}
    say(
        f"{kind.capitalize()}, {_TITLES[name]}: avg {mean(seconds):.3f} s, median {shares['50']:.3f} s, "
        f"min {min(seconds):.3f} s, max {max(seconds):.3f} s ({len(seconds)} starts)"
    )
    return {
        f"avg_{kind}_{name}_time": mean(seconds),
        f"{kind}_{name}_times": list(seconds),
        f"{kind}_{name}_percentiles": shares,
    }
