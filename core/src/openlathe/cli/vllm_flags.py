"""Flags that people know from vLLM and that openlathe has no setting for.

Data, so that each is either accepted with a line in the log that says what became of it, or refused by its name with
one sentence. A flag that would change results or resources is never merely ignored.
"""

from __future__ import annotations

import argparse
import logging
from typing import Any

from ..spi.errors import ConfigError

logger = logging.getLogger(__name__)

#: Flag -> (number of values it takes, what the log says).
ACCEPTED: dict[str, tuple[int, str]] = {
    "--enable-auto-tool-choice": (0, "tools are parsed whenever the model has a parser; the flag is not needed"),
    "--enable-reasoning": (0, "reasoning is parsed whenever the model has a parser; the flag is not needed"),
    "--swap-space": (1, "KV offload plugins took the place of swap space; nothing is set aside"),
    "--preemption-mode": (1, "preempted requests are recomputed"),
    "--num-scheduler-steps": (1, "scheduling ahead of the device took its place; it has no effect"),
    "--disable-log-requests": (0, "requests are not logged unless --enable-log-requests says so"),
    "--disable-log-stats": (0, "statistics are served at /metrics and not logged"),
    "--use-v2-block-manager": (0, "there is one block manager"),
    "--max-parallel-loading-workers": (1, "weights are memory-mapped; it has no effect"),
    "--use-tqdm-on-load": (0, "progress is shown on a terminal"),
    "--disable-custom-all-reduce": (0, "one device needs no all-reduce"),
    "--disable-cascade-attn": (0, "nothing is to be switched off: no cascade attention is installed"),
    "--disable-hybrid-kv-cache-manager": (0, "KV groups follow from the model"),
    "--max-seq-len-to-capture": (1, "captured steps serve every length"),
    "--tokenizer-mode": (1, "tokenizer.json decides"),
    "--guided-decoding-backend": (1, "grammar plugins decide"),
    "--cuda-graph-sizes": (1, "decode steps are captured in the sizes that occur"),
    "--optimization-level": (1, "operators are chosen at start-up, see `core plan`"),
    "--disable-fastapi-docs": (0, "no such pages are served"),
    "--scheduling-policy": (1, "requests carry their priority; equal ones are served in order of arrival"),
}

#: Flags whose one harmless value is what happens anyway.
HARMLESS: dict[str, str] = {
    "--tensor-parallel-size": "1",
    "--pipeline-parallel-size": "1",
    "--data-parallel-size": "1",
    "--decode-context-parallel-size": "1",
    "--prefill-context-parallel-size": "1",
    "--nnodes": "1",
    "--api-server-count": "1",
    "--cpu-offload-gb": "0",
    "--task": "generate",
    "--config-format": "auto",
    "--prefix-caching-hash-algo": "sha256",
    "--response-role": "assistant",
    "--stream-interval": "1",
    "--logprobs-mode": "raw_logprobs",
}

#: Of these, those whose other values are said otherwise here.
INSTEAD: dict[str, str] = {
    "--task": "is said by --runner pooling, and --convert embed or classify where both are possible"
}

#: Short forms.
_ALIASES: dict[str, tuple[str, ...]] = {
    "--tensor-parallel-size": ("-tp",),
    "--pipeline-parallel-size": ("-pp",),
    "--data-parallel-size": ("-dp",),
    "--decode-context-parallel-size": ("-dcp",),
    "--api-server-count": ("-asc",),
    "--enable-expert-parallel": ("-ep",),
    "--speculative-config": ("-sc",),
    "--compilation-config": ("-cc", "-O"),
}

#: What no installed plugin brings -> the flags that ask for it.
MISSING: dict[str, tuple[str, ...]] = {
    "more than one device": ("--enable-expert-parallel", "--master-addr", "--node-rank", "--headless"),
    "speculative decoding": ("--speculative-config", "--speculative-model", "--num-speculative-tokens"),
    "LoRA": ("--enable-lora", "--lora-modules", "--max-loras", "--max-lora-rank", "--max-cpu-loras"),
    "KV offload": ("--kv-offloading-backend", "--kv-offloading-size", "--kv-transfer-config"),
    "images, audio and video": ("--limit-mm-per-prompt", "--mm-processor-kwargs", "--media-io-kwargs"),
    "compilation": ("--compilation-config",),
}

#: What openlathe does otherwise -> the flags that ask for it.
OTHERWISE: dict[str, tuple[str, ...]] = {
    "code from a checkpoint is never run; install the plugin of its family": ("--trust-remote-code",),
    "change fields of config.json with --hf-overrides": ("--hf-config-path", "--rope-scaling", "--rope-theta"),
    "nothing is imported by path; write a plugin": (
        "--middleware",
        "--scheduler-cls",
        "--worker-cls",
        "--worker-extension-cls",
        "--io-processor-plugin",
        "--model-class-overrides",
    ),
}

_REFUSED = {
    flag: f"asks for {what}, which no installed plugin brings" for what, flags in MISSING.items() for flag in flags
}
_REFUSED |= {flag: f"is not supported: {why} instead" for why, flags in OTHERWISE.items() for flag in flags}


def accept(flag: str, value: Any = None) -> bool:
    """Logs what became of a flag; False for one that is not known here. ``ConfigError`` where it is refused."""
    if flag in ACCEPTED:
        logger.info("%s: %s.", flag, ACCEPTED[flag][1])
        return True
    if flag in HARMLESS:
        if str(value) != HARMLESS[flag]:
            cause = INSTEAD.get(flag, "asks for what no installed plugin brings")
            raise ConfigError(f"{flag} {value} {cause}; {HARMLESS[flag]} works.")
        return True
    if flag in _REFUSED:
        raise ConfigError(f"{flag} {_REFUSED[flag]}.")
    return False


class _Foreign(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        accept(self.option_strings[0], values)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Declares them all, without a line in the help."""
    for flag in (*ACCEPTED, *HARMLESS, *_REFUSED):
        switch = flag in ACCEPTED and ACCEPTED[flag][0] == 0
        arity: Any = 0 if switch else "?" if flag in _REFUSED else None
        names = (flag, f"--no-{flag[2:]}") if switch else (flag, *_ALIASES.get(flag, ()))
        parser.add_argument(*names, action=_Foreign, nargs=arity, dest=argparse.SUPPRESS, help=argparse.SUPPRESS)
