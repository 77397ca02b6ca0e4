"""How much is lost."""

from __future__ import annotations

from collections.abc import Iterable

from openlathe.spi import CommandSpec, hookimpl


@hookimpl
def openlathe_commands() -> Iterable[CommandSpec]:
    yield CommandSpec(
        name="eval",
        target="openlathe_plugin_eval.eval:main",
        summary="what a configuration loses against another: KL divergence, perplexity",
        assembles=True,
    )
