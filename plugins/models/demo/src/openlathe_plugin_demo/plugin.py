"""Two checkpoints bundled with openlathe: one to talk to, one that drafts for it."""

from __future__ import annotations

from collections.abc import Iterable

from openlathe.spi import CheckpointSpec, hookimpl


@hookimpl
def openlathe_checkpoints() -> Iterable[CheckpointSpec]:
    yield CheckpointSpec(
        name="demo",
        summary="a small demonstration model: it talks, adds, calls tools and knows openlathe, and nothing else",
        target="openlathe_plugin_demo:checkpoints/demo",
        default=True,
    )
    yield CheckpointSpec(
        name="demo-draft",
        summary="a tenth of demo, to draft for it in speculative decoding",
        target="openlathe_plugin_demo:checkpoints/demo-draft",
    )
