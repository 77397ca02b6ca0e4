"""A linear method that rounds weights to four bits when a layer has been loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from openlathe_plugin_int8.method import Int8LinearMethod
from torch import Tensor

from openlathe.kernels import PackedExperts, PackedLinear
from openlathe.kernels.experts import Gate, GroupedExperts
from openlathe.layers.context import BuildContext
from openlathe.layers.heads import LMHead
from openlathe.spi import ConfigError

from .rounding import rounded

GROUP_SIZES = (32, 64, 128)
HEADS = ("int8", "int4")


class Int4LinearMethod(Int8LinearMethod):
    """Follows :class:`openlathe.spi.LinearMethod`. Heads stay in eight bits unless they are asked to be smaller: of all
    layers theirs is the error that nothing behind evens out."""

    def __init__(self, context: BuildContext, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(context, options)
        given = {"group_size": 64, "head": "int8", **(options or {})}
        self.group_size, self.head = given["group_size"], given["head"]
        for name, value, allowed in (("group_size", self.group_size, GROUP_SIZES), ("head", self.head, HEADS)):
            if value not in allowed:
                known = ", ".join(map(str, allowed))
                raise ConfigError(f"--opt quantization.int4.{name}={value}: it is one of {known}.")

    def create(self, layer: Any, prefix: str, in_features: int, out_features: Sequence[int], bias: bool) -> None:
        super().create(layer, prefix, in_features, out_features, bias)
        if not (layer.stays_plain or self._in_eight_bits(layer)):
            self._check(prefix, in_features)

    def packed(self, layer: Any, weight: Tensor, bias: Tensor | None) -> PackedLinear:
        return (self.multiply if self._in_eight_bits(layer) else self.multiply_in_groups)(weight, bias)

    def multiply_in_groups(self, weight: Tensor, bias: Tensor | None) -> PackedLinear:
        """The ``int4_linear`` of a weight [N, K]."""
        return self.context.operators.int4_linear(*rounded(weight, self.group_size), bias)

    def experts(self, gate_up: Tensor, down: Tensor, gate: Gate, *biases: Tensor | None) -> PackedExperts:
        for name, weight in (("gate_up_proj", gate_up), ("down_proj", down)):
            self._check(f"the experts' {name}", weight.shape[-1])
        return GroupedExperts(self.multiply_in_groups, gate_up, down, gate, *biases)

    def _in_eight_bits(self, layer: Any) -> bool:
        return isinstance(layer, LMHead) and self.head == "int8"

    def _check(self, name: str, inputs: int) -> None:
        if inputs % self.group_size:
            fitting = [size for size in GROUP_SIZES if inputs % size == 0]
            instead = (
                f"choose --opt quantization.int4.group_size={fitting[-1]}" if fitting else "use --quantization int8"
            )
            raise ConfigError(
                f"--quantization int4: groups of {self.group_size} do not divide the {inputs} inputs of {name}; "
                f"{instead}, or leave the layer out by --opt quantization.int4.skip."
            )
