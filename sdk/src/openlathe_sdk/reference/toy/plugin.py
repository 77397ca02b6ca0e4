"""A whole model plugin to read first: what a family has to bring, with a model that fits on a page.

Nothing registers it: tests do, with :func:`openlathe_sdk.reference.toy.checkpoint.toy_registry`. A published plugin
would name this module in the entry-point group ``openlathe.v1`` of its pyproject.toml.
"""

from __future__ import annotations

from collections.abc import Iterable

from openlathe.spi import ModelSpec, hookimpl


@hookimpl
def openlathe_models() -> Iterable[ModelSpec]:
    yield ModelSpec(
        name="toy",
        summary="adds up what it has read; no network at all",
        architectures=("ToyForCausalLM",),
        target="openlathe_sdk.reference.toy.modeling:ToyForCausalLM",
        config="openlathe_sdk.reference.toy.config:ToyConfig",
    )
