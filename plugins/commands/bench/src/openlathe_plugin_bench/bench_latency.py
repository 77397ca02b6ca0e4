"""``core bench latency``: one batch of equal requests, offline, again and again."""

from __future__ import annotations

import argparse
import random
import sys
import time
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from openlathe.api import say

from .datasets import random_ids
from .figures import mean, percent, percentile
from .flags import add_engine, add_refusals, add_results, at_least, check_room, engine_config
from .plot import check_plot, plot_shares
from .report import write_json

if TYPE_CHECKING:
    from openlathe.api import LLM

USAGE = "core bench latency --model MODEL [flags]"
PERCENTILES = (10, 25, 50, 75, 90, 99)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("latency")
    whole = at_least(1)
    group.add_argument("--input-len", type=whole, default=32, metavar="N", help="tokens of a prompt [32]")
    group.add_argument("--output-len", type=whole, default=128, metavar="N", help="tokens to generate [128]")
    group.add_argument("--batch-size", type=whole, default=8, metavar="N", help="requests at once [8]")
    group.add_argument("--n", type=whole, default=1, metavar="N", help="answers to each [1]")
    group.add_argument("--num-iters-warmup", type=at_least(0), default=10, metavar="N", help="not counted [10]")
    group.add_argument("--num-iters", type=whole, default=30, metavar="N", help="[30]")
    group.add_argument("--temperature", type=at_least(0, float), default=1.0, metavar="X", help="0: greedy [1]")
    group.add_argument("--disable-detokenize", action="store_true", help="ids alone, no text")
    add_results(group, plot="the share of iterations by their time")
    add_engine(parser)
    add_refusals(parser)


def run(args: argparse.Namespace) -> int:
    check_plot(args.plot)
    config = engine_config(args)
    from openlathe.api import LLM

    llm = LLM(**config.to_dict(), policy=args.policy)
    check_room(config, args.input_len + args.output_len, llm.plan.max_model_len)
    drawn = random.Random(config.seed)
    latencies = []
    total = args.num_iters_warmup + args.num_iters
    for index in tqdm(range(total), desc="Iterations", disable=not sys.stderr.isatty()):
        seconds = _iteration(llm, args, drawn)
        if index >= args.num_iters_warmup:
            latencies.append(seconds)
    percentiles = {percent(share): percentile(latencies, share) for share in PERCENTILES}
    say(f"Avg latency: {mean(latencies)} seconds")
    for name, value in percentiles.items():
        say(f"{name}% percentile latency: {value} seconds")
    figures = {"avg_latency": mean(latencies), "latencies": latencies, "percentiles": percentiles}
    write_json(args.output_json, figures)
    if args.plot is not None:
        plot_shares(args.plot, {"Latency of a batch": latencies}, "s")
    return 0


def _iteration(llm: LLM, args: argparse.Namespace, drawn: random.Random) -> float:
    """Seconds that one batch takes. Its prompts are new, so that no cached prefix helps."""
    from openlathe.api import SamplingParams

    vocab_size = llm.plan.model_config().vocab_size
    prompts: list[Any] = [random_ids(drawn, vocab_size, args.input_len) for _ in range(args.batch_size)]
    params = SamplingParams(
        n=args.n,
        temperature=args.temperature,
        ignore_eos=True,
        max_tokens=args.output_len,
        detokenize=not args.disable_detokenize,
    )
    started = time.perf_counter()
    llm.generate(prompts, params, use_tqdm=False)
    return time.perf_counter() - started
