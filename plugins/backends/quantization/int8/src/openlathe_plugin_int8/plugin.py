"""Linear layers in eight bits, rounded as they are loaded."""

from __future__ import annotations

from collections.abc import Iterable

from openlathe.spi import Option, QuantizationSpec, hookimpl


@hookimpl
def openlathe_quantizations() -> Iterable[QuantizationSpec]:
    yield QuantizationSpec(
        name="int8",
        target="openlathe_plugin_int8.method:Int8LinearMethod",
        summary="weights of eight bits with a scale for each output, inputs rounded row by row",
        batch_invariant=True,
        options=(
            Option(name="skip", default="", help="parts of the names of layers that stay as they are, by commas"),
        ),
    )
