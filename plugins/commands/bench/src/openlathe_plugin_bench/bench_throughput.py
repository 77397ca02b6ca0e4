"""``core bench throughput``: many requests at once, offline."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from openlathe.api import say
from openlathe.spi import ConfigError

from . import datasets
from .flags import add_engine, add_refusals, at_least, check_room, engine_config
from .report import write_json

USAGE = "core bench throughput --model MODEL [flags]"
_BACKENDS = ("openlathe", "vllm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    datasets.add_arguments(parser, num_prompts=1000, random_lengths=(1024, 128))
    group = parser.add_argument_group("throughput")
    group.add_argument("--backend", default="openlathe", metavar="NAME", help="vllm is taken for openlathe")
    group.add_argument("--n", type=at_least(1), default=1, metavar="N", help="answers to each prompt [1]")
    group.add_argument("--temperature", type=at_least(0, float), default=1.0, metavar="X", help="0: greedy [1]")
    group.add_argument("--disable-detokenize", action="store_true", help="ids alone, no text")
    group.add_argument("--output-json", metavar="FILE", type=Path, help="the figures as JSON")
    add_engine(parser)
    add_refusals(parser)


def run(args: argparse.Namespace) -> int:
    if args.backend not in _BACKENDS:
        raise ConfigError(f"--backend {args.backend} is another engine; benchmarks/peers compares with others.")
    config = engine_config(args)
    from openlathe.api import LLM, SamplingParams

    llm = LLM(**config.to_dict(), policy=args.policy)
    samples = datasets.load_samples(args, llm.get_tokenizer(), config.seed)
    check_room(config, max(one.prompt_len + one.output_len for one in samples), llm.plan.max_model_len)
    params = [
        SamplingParams(
            n=args.n,
            temperature=args.temperature,
            ignore_eos=True,
            max_tokens=sample.output_len,
            detokenize=not args.disable_detokenize,
        )
        for sample in samples
    ]
    prompts: list[Any] = [sample.token_ids for sample in samples]
    started = time.perf_counter()
    outputs = llm.generate(prompts, params, use_tqdm=sys.stderr.isatty())
    elapsed = time.perf_counter() - started
    prompt_tokens = sum(sample.prompt_len for sample in samples)
    output_tokens = sum(len(one.token_ids) for output in outputs for one in output.outputs)
    total = prompt_tokens + output_tokens
    say(
        f"Throughput: {len(samples) / elapsed:.2f} requests/s, {total / elapsed:.2f} total tokens/s, "
        f"{output_tokens / elapsed:.2f} output tokens/s"
    )
    say(f"Total num prompt tokens:  {prompt_tokens}")
    say(f"Total num output tokens:  {output_tokens}")
    figures = {
        "elapsed_time": elapsed,
        "num_requests": len(samples),
        "total_num_tokens": total,
        "requests_per_second": len(samples) / elapsed,
        "tokens_per_second": total / elapsed,
    }
    write_json(args.output_json, figures)
    return 0
