"""Linear layers in four bits, rounded as they are loaded."""

from __future__ import annotations

from collections.abc import Iterable

from openlathe.spi import Option, QuantizationSpec, hookimpl


@hookimpl
def openlathe_quantizations() -> Iterable[QuantizationSpec]:
    yield QuantizationSpec(
        name="int4",
        target="openlathe_plugin_int4.method:Int4LinearMethod",
        summary="weights of four bits in groups with a scale and a zero point, inputs rounded group by group",
        batch_invariant=True,
        options=(
            Option(name="group_size", type="int", default=64, help="inputs that share a scale: 32, 64 or 128"),
            Option(name="head", default="int8", help="the head that makes logits: int8 or int4"),
            Option(name="skip", default="", help="parts of the names of layers that stay as they are, by commas"),
        ),
    )
