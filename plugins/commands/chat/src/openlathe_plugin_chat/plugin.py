"""A model in the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from openlathe.spi import CommandSpec, hookimpl


@hookimpl
def openlathe_commands() -> Iterable[CommandSpec]:
    yield CommandSpec(
        name="chat",
        target="openlathe_plugin_chat.chat:main",
        summary="talk to a model in the terminal",
        assembles=True,
    )
    yield CommandSpec(
        name="generate",
        target="openlathe_plugin_chat.generate:main",
        summary="complete prompts from the terminal or a file",
        assembles=True,
    )
