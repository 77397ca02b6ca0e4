"""``core bench profile``: where the time of the engine's steps goes, by part and by operator."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from openlathe.api import say
from openlathe.spi import ConfigError

from .datasets import random_ids
from .flags import add_engine, add_refusals, add_results, at_least, check_room, engine_config
from .parts import CAPTURED, MEANINGS, REST, watched
from .plot import check_plot, plot_bars
from .report import aligned, write_json
from .spans import BATCH, DECODE, OPERATOR, PART, PREFILL, Recorder, Span, chrome_trace

USAGE = "core bench profile --model MODEL [flags]"
#: The part that begins a step on the device's thread.
_FIRST = "inputs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("profile")
    whole = at_least(1)
    group.add_argument("--input-len", type=whole, default=128, metavar="N", help="tokens of a prompt [128]")
    group.add_argument("--output-len", type=whole, default=32, metavar="N", help="tokens to generate [32]")
    group.add_argument("--batch-size", type=whole, default=8, metavar="N", help="requests at once [8]")
    group.add_argument("--num-iters-warmup", type=at_least(0), default=1, metavar="N", help="batches before [1]")
    group.add_argument("--num-iters", type=whole, default=3, metavar="N", help="batches that are profiled [3]")
    group.add_argument("--temperature", type=at_least(0, float), default=1.0, metavar="X", help="0: greedy [1]")
    group.add_argument("--output-trace", type=Path, metavar="FILE", help="every call, for chrome://tracing or Perfetto")
    add_results(group, plot="milliseconds of a step by part")
    add_engine(parser)
    add_refusals(parser)


def run(args: argparse.Namespace) -> int:
    check_plot(args.plot)
    recorder = Recorder()
    with watched(recorder):
        _generate(args, recorder)
    phases = [phase for phase in (PREFILL, DECODE) if _steps(recorder.spans, phase)]
    figures = {phase: summary(recorder.spans, phase) for phase in phases}
    for phase in phases:
        _show(phase, figures[phase])
    if any(name == CAPTURED for phase in phases for name in figures[phase]["operators"]):
        say("A captured step is one call; --enforce-eager shows its operators.")
    write_json(args.output_json, figures)
    write_json(args.output_trace, chrome_trace(recorder.spans) if args.output_trace else None)
    if args.plot is not None:
        plot_bars(args.plot, {phase: _milliseconds(figures[phase]) for phase in phases}, "ms a step")
    return 0


def _generate(args: argparse.Namespace, recorder: Recorder) -> None:
    """Runs batches of new prompts, the last ones with the recorder on."""
    config = engine_config(args)
    if config.packed_cache_dir is not None:
        raise ConfigError(
            "--packed-cache-dir brings packed weights past the operators that are to be seen; leave it out."
        )
    from openlathe.api import LLM, SamplingParams

    llm = LLM(**config.to_dict(), policy=args.policy)
    check_room(config, args.input_len + args.output_len, llm.plan.max_model_len)
    drawn = random.Random(config.seed)
    vocab_size = llm.plan.model_config().vocab_size
    params = SamplingParams(temperature=args.temperature, ignore_eos=True, max_tokens=args.output_len)
    for index in range(args.num_iters_warmup + args.num_iters):
        prompts: list[Any] = [random_ids(drawn, vocab_size, args.input_len) for _ in range(args.batch_size)]
        recorder.on = index >= args.num_iters_warmup
        recorder.timed(BATCH, BATCH, llm.generate)(prompts, params, use_tqdm=False)
        recorder.on = False


def summary(spans: Sequence[Span], phase: str) -> dict[str, Any]:
    """Seconds of all steps of a ``phase``: as a whole, by part and by operator.

    The engine's thread and the device's work side by side, so that the parts of both add up to more than the whole;
    those of each thread add up to it by ``rest``.
    """
    steps = _steps(spans, phase)
    own = [span for span in spans if span.phase == phase]
    parts = _sums(span for span in own if span.category == PART)
    for thread in dict.fromkeys(part["thread"] for part in parts.values()):
        known = sum(part["seconds"] for part in parts.values() if part["thread"] == thread)
        parts[f"{REST} {thread}"] = {"calls": len(steps), "seconds": max(sum(steps) - known, 0.0), "thread": thread}
    places = list(MEANINGS)
    ordered = sorted(parts, key=lambda name: (parts[name]["thread"], places.index(name.partition(" ")[0])))
    operators = _sums(span for span in own if span.category == OPERATOR)
    return {
        "num_steps": len(steps),
        "seconds": sum(steps),
        "parts": {name: parts[name] for name in ordered},
        "operators": dict(sorted(operators.items(), key=lambda item: -item[1]["seconds"])),
    }


def _steps(spans: Iterable[Span], phase: str) -> list[float]:
    """Seconds of each step, from where the device's thread takes it up to where it takes up the next one.

    A batch's first step begins with the batch and its last one ends with it, so that steps fill batches.
    """
    spans = list(spans)
    begun = sorted((span for span in spans if span.name == _FIRST and span.category == PART), key=lambda one: one.begin)
    found = []
    for batch in (span for span in spans if span.category == BATCH):
        end = batch.begin + batch.seconds
        steps = [span for span in begun if batch.begin <= span.begin < end]
        bounds = [batch.begin, *(span.begin for span in steps[1:]), end]
        found += [
            after - before for step, (before, after) in zip(steps, pairwise(bounds), strict=True) if step.phase == phase
        ]
    return found


def _sums(spans: Iterable[Span]) -> dict[str, dict[str, Any]]:
    """Name -> calls, own seconds and thread."""
    found: dict[str, dict[str, Any]] = {}
    for span in spans:
        entry = found.setdefault(span.name, {"calls": 0, "seconds": 0.0, "thread": span.thread.partition("_")[0]})
        entry["calls"] += 1
        entry["seconds"] += span.own
    return found


def _milliseconds(figures: dict[str, Any]) -> dict[str, float]:
    return {name: 1e3 * part["seconds"] / figures["num_steps"] for name, part in figures["parts"].items()}


def _show(phase: str, figures: dict[str, Any]) -> None:
    steps, seconds = figures["num_steps"], figures["seconds"]
    say(f"{phase}: {steps} steps, {1e3 * seconds / steps:.3f} ms a step")
    rows = [
        [name.partition(" ")[0], part["thread"], *_cells(part["seconds"], steps, seconds), _meaning(name)]
        for name, part in figures["parts"].items()
    ]
    say(aligned(["part", "thread", "ms a step", "of the step", "what it is"], rows))
    say()
    rows = [
        [name, f"{entry['calls'] / steps:.4g}", *_cells(entry["seconds"], steps, seconds)]
        for name, entry in figures["operators"].items()
    ]
    if rows:
        say(aligned(["operator", "calls a step", "ms a step", "of the step"], rows))
        say()


def _meaning(name: str) -> str:
    return MEANINGS[name.partition(" ")[0]]


def _cells(seconds: float, steps: int, whole: float) -> list[str]:
    return [f"{1e3 * seconds / steps:.3f}", f"{seconds / whole:.1%}"]
