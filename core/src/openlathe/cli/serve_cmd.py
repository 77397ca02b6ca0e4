"""``serve [MODEL]``: from the command line to a listening server."""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ..config import EngineConfig, ServerConfig
from .flags import add_flags, load, read_yaml
from .text import complain

if TYPE_CHECKING:
    from ..plugins.plan import Plan
    from ..plugins.registry import Registry

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_flags(parser, EngineConfig)
    add_flags(parser, ServerConfig)


def run(args: argparse.Namespace) -> int:
    started = time.monotonic()
    yaml = read_yaml(args.config)
    config, server = load(EngineConfig, args, yaml=yaml), load(ServerConfig, args, yaml=yaml)
    from ..collector import collector_paused
    from ..engine.spawn import SpawnedEngine
    from ..server.listen import bind

    with bind(server) as sock, SpawnedEngine() as spawned, ExitStack() as starting:
        starting.enter_context(collector_paused())
        from ..plugins.assemble import assemble
        from ..server.run import serve

        registry = assemble(args.policy)
        plan = _plan(config, registry)
        about = _about(plan, registry)

        def ready(url: str) -> None:
            starting.close()
            complain(banner(plan, url, time.monotonic() - started, about))

        coroutine = serve(plan, server, registry, sock, spawned, progress=_progress, ready=ready)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(coroutine)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # there is none for Windows
        return None
    return uvloop.new_event_loop


def _plan(config: EngineConfig, registry: Registry) -> Plan:
    """The plan of a checkpoint whose weight files have been looked at: a truncated one fails here, in a second."""
    from ..checkpoint import check_weights, locate, with_model
    from ..plugins.plan import make_plan

    config = with_model(config, registry)
    path = locate(config.model or "", config, registry)
    if config.load_format != "dummy":
        check_weights(path)
    plan = make_plan(config, registry, model_path=str(path))
    for note in plan.notes:
        logger.info(note)
    return plan


def _about(plan: Plan, registry: Registry) -> str:
    """What a bundled checkpoint's plugin says of it."""
    from ..checkpoint import bundled

    provider = bundled(plan.config.model or "", registry)
    return provider.spec.summary if provider is not None else ""


def _progress(text: str) -> None:
    logger.info(text[:1].upper() + text[1:] + ".")


def banner(plan: Plan, url: str, seconds: float, about: str = "") -> str:
    """What runs, in a few lines, and where; ``about`` is a sentence on the model."""
    chosen = plan.choices
    attention = sorted({choice.name for slot, choice in chosen.items() if slot.startswith("attention.")})
    source = chosen["model"].distribution
    lines = {
        "model": f"{plan.config.served_names[0]} ({plan.architecture}, {plan.dtype}, by {source})",
        **({"about": about} if about else {}),
        "engine": f"{plan.device.type}, attention {', '.join(attention)}, context {plan.max_model_len}, "
        f"{plan.max_num_seqs} sequences, {plan.max_num_batched_tokens} tokens a step",
        **_answers(plan),
        "ready": f"{url}/v1 after {seconds:.1f} s (`core plan {plan.config.model}` says why)",
    }
    return "\n".join(f"{name:>8}  {text}" for name, text in lines.items())


def _answers(plan: Plan) -> dict[str, str]:
    """What becomes of a model's text, or of its hidden states."""
    if plan.pooling is not None:
        return {"pooling": f"{plan.pooling}; the model does not generate"}
    slots = ("tool-parser", "reasoning-parser")
    tool, reasoning = (plan.choices[slot].name if slot in plan.choices else "none" for slot in slots)
    return {"parsers": f"tools {tool}, reasoning {reasoning}"}
