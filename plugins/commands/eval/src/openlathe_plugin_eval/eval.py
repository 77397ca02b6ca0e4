"""``core eval``: how far a configuration's distributions are from those of another one of the same checkpoint."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from openlathe.api import EngineConfig, FlagParser, Policy, add_flags, load, parse_command, say
from openlathe.spi import ConfigError

from .windows import texts, windows

_DTYPES = ("float32", "bfloat16", "float16")
_NONE = "none"
#: What the reference does without, unless --against says otherwise.
_LOSSY: dict[str, Any] = {"quantization": None, "kv_cache_dtype": "auto"}
_LEAST_CONTEXT = 8


def main(arguments: Sequence[str]) -> int:
    """``core eval`` with ``arguments``; the exit status."""
    parser = FlagParser(
        prog="core eval",
        usage="core eval MODEL [flags]",
        description="What a configuration loses: KL divergence and perplexity against another one.",
    )
    add_arguments(parser)
    return run(parse_command(parser, arguments))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("eval")
    group.add_argument(
        "--reference",
        choices=[*_DTYPES, _NONE],
        metavar="{" + ",".join([*_DTYPES, _NONE]) + "}",
        help="the other one's dtype, in which it is not quantized, nor is its KV cache; default: the same; "
        "none: perplexity alone",
    )
    group.add_argument(
        "--against",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the other one, by the name of its flag; may be repeated",
    )
    group.add_argument(
        "--text", action="append", default=[], type=Path, metavar="FILE", help="default: some pages that come with it"
    )
    group.add_argument("--context-len", type=int, default=512, metavar="N", help="tokens of a piece of text [512]")
    group.add_argument("--num-tokens", type=int, metavar="N", help="stop after so many; default: all there are")
    group.add_argument("--output-json", type=Path, metavar="FILE", help="the figures as JSON")
    add_flags(parser, EngineConfig)


def run(args: argparse.Namespace) -> int:
    config = load(EngineConfig, args)
    if config.model is None:
        raise ConfigError("Which model? `core eval` takes a directory, a bundled checkpoint or a hub id.")
    if args.context_len < _LEAST_CONTEXT:
        raise ConfigError(f"--context-len is {args.context_len}; give {_LEAST_CONTEXT} or more.")
    if args.num_tokens is not None and args.num_tokens < 1:
        raise ConfigError(f"--num-tokens is {args.num_tokens}; give 1 or more.")
    reference = reference_config(config, args.reference, args.against)
    found = texts(args.text)
    figures = _measure(args, config, reference, found)
    _show(figures)
    if args.output_json is not None:
        _write(args.output_json, figures)
    return 0


def reference_config(config: EngineConfig, dtype: str | None, against: Sequence[str]) -> EngineConfig | None:
    """The configuration to compare with, None for none. Raises ``ConfigError``, also where both would be the same."""
    if dtype == _NONE:
        if against:
            raise ConfigError(
                "--against sets up a reference and --reference none asks for none; leave one of them out."
            )
        return None
    changes = _LOSSY | ({"dtype": dtype} if dtype else {})
    reference = replace(config, **changes | _settings(against))
    if reference == config and not against:
        raise ConfigError(
            "Both configurations would be the same; say what differs (--quantization int8, --kv-cache-dtype, "
            "--reference float32, --against KEY=VALUE), or give --reference none for the perplexity alone."
        )
    return reference


def _settings(against: Sequence[str]) -> dict[str, Any]:
    """``KEY=VALUE`` as the flags ``--KEY VALUE`` are read."""
    parser = FlagParser(prog="core eval --against")
    add_flags(parser, EngineConfig)
    words = []
    for word in against:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ConfigError(f"--against has {word!r}; write KEY=VALUE, such as kv_cache_dtype=auto.")
        words.append(f"--{name.lstrip('-').replace('_', '-')}={value}")
    given = parser.parse_args(words)
    read = load(EngineConfig, given, env={}, yaml={})
    names = {item.name for item in fields(EngineConfig)}
    return {name: getattr(read, name) for name in vars(given) if name in names}


def _measure(
    args: argparse.Namespace, config: EngineConfig, reference: EngineConfig | None, found: dict[str, str]
) -> dict[str, Any]:
    """Both engines read the texts side by side, a piece at a time."""
    import torch

    from .losses import Losses
    from .seen_engine import SeenEngine

    policy: Policy = args.policy
    candidate = SeenEngine(config, policy)
    other = None if reference is None else SeenEngine(reference, policy)
    _check(candidate, other, args.context_len)
    pieces = list(windows(list(found.values()), candidate.llm.get_tokenizer(), args.context_len))
    if not pieces:
        raise ConfigError("The text has no token; give one with some words.")
    losses = Losses()
    for ids in tqdm(pieces, desc="Pieces", disable=not sys.stderr.isatty()):
        left = len(ids) if args.num_tokens is None else args.num_tokens - len(losses.candidate)
        ids = ids[: left + 1]
        if len(ids) < 2:
            break
        targets = torch.tensor(ids[1:])
        losses.add(targets, candidate.logits(ids), None if other is None else other.logits(ids))
    return {
        "model": config.model,
        "texts": list(found),
        "context_len": args.context_len,
        "candidate": _description(candidate),
        "reference": None if other is None else _description(other),
        **losses.figures(),
    }


def _check(candidate: Any, other: Any, context_len: int) -> None:
    """Raises ``ConfigError`` where the two cannot be compared, or a piece of text would not fit."""
    for engine in filter(None, (candidate, other)):
        plan = engine.llm.plan
        if plan.pooling is not None:
            raise ConfigError("A model that pools foretells no token; leave --runner pooling out.")
        if context_len >= plan.max_model_len:
            raise ConfigError(
                f"--context-len is {context_len} and the context {plan.max_model_len}; give less than that."
            )
    if other is not None:
        sizes = [engine.llm.plan.model_config().vocab_size for engine in (candidate, other)]
        if sizes[0] != sizes[1]:
            raise ConfigError(
                f"The vocabularies have {sizes[0]} and {sizes[1]} tokens; compare configurations of one checkpoint."
            )


def _description(engine: Any) -> dict[str, str]:
    """What of a plan decides how exact it is."""
    plan = engine.llm.plan
    linear = plan.choices["linear"]
    return {
        "model_path": plan.model_path,
        "dtype": plan.dtype,
        "kv_cache_dtype": plan.kv_dtype,
        "quantization": linear.name,
    }


def _show(figures: dict[str, Any]) -> None:
    for name in ("candidate", "reference"):
        if figures[name] is not None:
            facts = figures[name]
            say(
                f"{name:<10} dtype {facts['dtype']}, quantization {facts['quantization']}, "
                f"KV cache {facts['kv_cache_dtype']}"
            )
    rows = [("Tokens", f"{figures['num_tokens']}"), ("Perplexity", f"{figures['perplexity']:.4f}")]
    if figures["reference"] is not None:
        kl = figures["kl_divergence"]
        ratio, error = figures["perplexity_ratio"], figures["perplexity_ratio_error"]
        rows += [
            ("Perplexity of the reference", f"{figures['reference_perplexity']:.4f}"),
            ("Ratio", f"{ratio:.6f} ± {error:.6f}"),
            ("Mean KL divergence (nats)", f"{kl['mean']:.3e} ± {kl['standard_error']:.1e}"),
            *((_KL_NAMES[name], f"{kl[name]:.3e}") for name in _KL_NAMES),
            ("Same likeliest token", f"{figures['top1_agreement']:.2%}"),
        ]
    say("\n".join(f"{name:<29} {value}" for name, value in rows))


_KL_NAMES = {
    "median": "Median KL divergence",
    "p90": "90 % KL divergence",
    "p99": "99 % KL divergence",
    "p99.9": "99.9 % KL divergence",
    "max": "Largest KL divergence",
}


def _write(path: Path, figures: dict[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=4) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None
