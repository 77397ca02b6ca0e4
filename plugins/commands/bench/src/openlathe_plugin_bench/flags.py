"""Flags that several benchmarks share, and those of vLLM's benchmarks that none has, as data."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from openlathe.api import EngineConfig, add_flags, load
from openlathe.spi import ConfigError

#: Flag of vLLM's benchmarks -> what to do instead.
_ELSEWHERE: dict[str, str] = {
    "--profile": "`core bench profile` shows where the time goes",
    "--use-beam-search": "beams are not benchmarked; leave it out",
    "--lora-modules": "adapters are not benchmarked; leave it out",
    "--lora-path": "adapters are not benchmarked; leave it out",
    "--lora-assignment": "adapters are not benchmarked; leave it out",
    "--hf-subset": "data sets of the hub are not fetched; save one as JSON lines for --dataset-name custom",
    "--hf-split": "data sets of the hub are not fetched; save one as JSON lines for --dataset-name custom",
    "--hf-name": "data sets of the hub are not fetched; save one as JSON lines for --dataset-name custom",
    "--hf-max-batch-size": "no other engine is run; benchmarks/peers compares with others",
    "--async-engine": "`core bench serve` measures the way through a server",
    "--sonnet-input-len": "the data sets are random, sharegpt and custom; take --dataset-name random",
    "--sonnet-output-len": "the data sets are random, sharegpt and custom; take --dataset-name random",
    "--sonnet-prefix-len": "the data sets are random, sharegpt and custom; take --random-prefix-len",
    "--prefix-repetition-prefix-len": "take --dataset-name random with --random-prefix-len",
    "--prefix-repetition-suffix-len": "take --dataset-name random with --random-input-len",
    "--prefix-repetition-num-prefixes": "take --dataset-name random with --random-prefix-len, which gives one prefix",
    "--prefix-repetition-output-len": "take --dataset-name random with --random-output-len",
    "--random-batch-size": "prompts are sent one in a request; leave it out",
    "--dataset": "give the file with --dataset-path",
    "--skip-chat-template": "prompts are sent as they are, and the server renders those of chats",
    "--custom-skip-chat-template": "prompts are sent as they are, and the server renders those of chats",
    "--request-id-prefix": "the server names requests; leave it out",
    "--logprobs": "say it in --extra-body",
    "--ramp-up-strategy": "the rate is constant; give --request-rate",
    "--ramp-up-start-rps": "the rate is constant; give --request-rate",
    "--ramp-up-end-rps": "the rate is constant; give --request-rate",
    "--no-stream": "times between tokens need a stream; leave it out",
    "--trust-remote-code": "code from a checkpoint is never run; leave it out",
    "--enable-device-monitor": "the device is not watched; leave it out",
}


class _Refused(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        flag = self.option_strings[0]
        raise ConfigError(f"{flag} is not supported: {_ELSEWHERE[flag]}.")


def add_refusals(parser: argparse.ArgumentParser) -> None:
    """Declares what is refused by name, as far as the parser has no such flag; without a line in the help."""
    known = parser._option_string_actions
    for flag in _ELSEWHERE:
        if flag not in known:
            parser.add_argument(flag, action=_Refused, nargs="?", dest=argparse.SUPPRESS, help=argparse.SUPPRESS)


def at_least(least: float, convert: Callable[[str], Any] = int) -> Callable[[str], Any]:
    """A converter that refuses what is below ``least``."""

    def converted(text: str) -> Any:
        try:
            value = convert(text)
        except ValueError:
            value = None
        if value is None or not value >= least:  # NaN is neither
            raise argparse.ArgumentTypeError(f"{text!r} is no number of at least {least}")
        return value

    return converted


def add_engine(parser: argparse.ArgumentParser) -> None:
    """``MODEL`` and every engine flag of ``serve``."""
    add_flags(parser, EngineConfig)


def engine_config(args: argparse.Namespace) -> EngineConfig:
    """Raises ``ConfigError`` where no model is named."""
    config = load(EngineConfig, args)
    if config.model is None:
        raise ConfigError("Which model? --model takes a directory, a bundled checkpoint or a hub id.")
    return config


def add_results(group: Any, *, plot: str) -> None:
    """``--output-json`` and ``--plot``, of which ``plot`` says what it shows."""
    group.add_argument("--output-json", type=Path, metavar="FILE", help="the figures as JSON")
    group.add_argument("--plot", type=Path, metavar="FILE", help=f"{plot}, as .svg or .png")


def check_room(config: EngineConfig, tokens: int, max_model_len: int) -> None:
    """Raises ``ConfigError`` where prompt and answer would not fit the model's context."""
    if tokens > max_model_len:
        raise ConfigError(
            f"Prompt and answer are {tokens} tokens long and the context of {config.model} is {max_model_len}; "
            "give smaller lengths."
        )
