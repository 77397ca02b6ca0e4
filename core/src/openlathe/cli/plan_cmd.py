"""``core plan [MODEL]``: everything that would be assembled, and why, before a byte of weights is read."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path

from ..checkpoint import locate, with_model
from ..config import EngineConfig
from ..devices import cpu_kv_cache_bytes
from ..plugins.assemble import assemble
from ..plugins.plan import Choice, KVGroup, Plan, make_plan
from ..spi.kv import MLAKV, EncoderOnly, FullKV, SlidingKV
from .flags import add_flags, load
from .text import count, paint, say, size, table, wrapped

#: Providers refused for one reason that are still shown one by one.
_MOST_ROWS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="the whole plan, for programs; carries a schema number")
    add_flags(parser, EngineConfig)


def run(args: argparse.Namespace) -> int:
    registry = assemble(args.policy)
    config = with_model(load(EngineConfig, args), registry)
    plan = make_plan(config, registry, model_path=locate(config.model or "", config, registry, metadata_only=True))
    if args.json:
        say(json.dumps(plan.to_dict(), indent=2))
    else:
        _show(plan)
    return 0


def _show(plan: Plan) -> None:
    device = f"{plan.device.type} ({plan.device.name}, {size(plan.device.memory_bytes)})"
    say(paint(f"{plan.config.model}: {plan.architecture} in {plan.dtype} on {device}", "bold"))
    if plan.model_path != plan.config.model:
        say(plan.model_path)
    say()
    rows = [
        (slot, choice.name, f"{choice.distribution} {choice.version}", choice.reason)
        for slot, choice in plan.choices.items()
    ]
    say(table(("SLOT", "CHOICE", "FROM", "WHY"), rows))
    _show_options(plan.choices.values())
    _show_refused(plan.choices.values())
    say()
    say(wrapped(f"limits    {_limits(plan)}", " " * 10))
    say(wrapped(f"KV cache  {_kv_cache(plan)}", " " * 10))
    if plan.pooling is not None:
        say(wrapped(f"pooling   {plan.pooling}", " " * 10))
    for note in plan.notes:
        say(wrapped(f"note      {note}", " " * 10))


def _show_options(choices: Iterable[Choice]) -> None:
    lines = [
        f"  {choice.kind}.{choice.name}.{name} = {value}"
        for choice in choices
        for name, value in choice.options.items()
    ]
    if lines:
        say("\n".join(["", paint("OPTIONS", "bold"), *lines]))


def _show_refused(choices: Iterable[Choice]) -> None:
    """Those refused for one reason share a row where they are many, or the formats would drown everything else."""
    groups: dict[tuple[str, str], list[str]] = {}
    for choice in choices:
        for refused in choice.refused:
            groups.setdefault((choice.slot, "; ".join(refused.reasons)), []).append(refused.provider)
    rows = []
    for (slot, reason), providers in groups.items():
        if len(providers) <= _MOST_ROWS:
            rows += [(slot, provider, reason) for provider in providers]
        else:
            names = ", ".join(sorted(provider.rpartition("/")[2] for provider in providers))
            rows.append((slot, f"{len(providers)} others", f"{reason}: {names}"))
    if rows:
        say()
        say(table(("NOT CHOSEN FOR", "PROVIDER", "BECAUSE"), rows))


def _limits(plan: Plan) -> str:
    return (
        f"{plan.max_model_len:,} tokens a sequence, {plan.max_num_seqs} sequences and "
        f"{plan.max_num_batched_tokens:,} tokens a step"
    )


def _kv_cache(plan: Plan) -> str:
    groups = "; ".join(f"{count(len(group.layers), 'layer')} of {_describe(group)}" for group in plan.kv_groups)
    text = f"{groups}; {plan.kv_dtype}, {size(plan.kv_bytes_per_token)} a token"
    if not plan.kv_bytes_per_token:
        return text
    memory = plan.config.kv_cache_memory_bytes or _spare_memory(plan)
    if len(plan.kv_groups) > 1:  # which share blocks, in numbers that depend on their windows
        return f"{text}; {size(memory)} hold about {memory // plan.kv_bytes_per_token:,} tokens, more behind windows"
    blocks = plan.config.num_gpu_blocks_override or memory // (plan.kv_bytes_per_token * plan.block_size)
    tokens = f"{blocks:,} blocks of {plan.block_size}, {blocks * plan.block_size:,} tokens"
    return f"{text}; {size(memory)} hold {tokens}"


def _spare_memory(plan: Plan) -> int:
    """What is set aside on a CPU; on another device what its share of memory leaves beside the weights, roughly."""
    if plan.device.type == "cpu":
        return cpu_kv_cache_bytes()
    weights = sum(file.stat().st_size for file in Path(plan.model_path).glob("*.safetensors"))
    return max(0, int(plan.device.memory_bytes * plan.config.gpu_memory_utilization) - weights)


def _describe(group: KVGroup) -> str:
    spec = group.spec
    text = type(spec).__name__
    if isinstance(spec, MLAKV):
        text = f"latents of {spec.elements_per_token}"
    if isinstance(spec, EncoderOnly):
        text = "attention both ways" + (f", window {spec.window}" if spec.window else "")
    if isinstance(spec, FullKV):
        text = f"{count(spec.kv_heads, 'head')} x {spec.dim_k}" + (f"/{spec.dim_v}" if spec.dim_v != spec.dim_k else "")
    return f"{text}, window {spec.window}" if isinstance(spec, SlidingKV) else text
