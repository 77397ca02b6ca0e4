"""A linear method that rounds weights to eight bits when a layer has been loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from openlathe.kernels import PackedExperts, PackedLinear
from openlathe.kernels.experts import Gate, GroupedExperts
from openlathe.kernels.int8_linear import round_rows
from openlathe.layers.context import BuildContext
from openlathe.layers.linear import PlainLinearMethod

#: Layers of fewer outputs stay as they are: they cost nothing, and what they decide, such as classes or a share of
#: experts, is felt everywhere.
FEWEST_OUTPUTS = 32
#: Elements that are in float32 at once.
BLOCK = 1 << 22


class Int8LinearMethod(PlainLinearMethod):
    """Follows :class:`openlathe.spi.LinearMethod`. One weight after the other is loaded in the model's dtype, rounded,
    and dropped; experts are rounded one by one."""

    def __init__(self, context: BuildContext, options: Mapping[str, Any] | None = None) -> None:
        super().__init__(context, options)
        self.skipped = tuple(filter(None, str((options or {}).get("skip") or "").split(",")))

    def create(self, layer: Any, prefix: str, in_features: int, out_features: Sequence[int], bias: bool) -> None:
        super().create(layer, prefix, in_features, out_features, bias)
        layer.stays_plain = sum(out_features) < FEWEST_OUTPUTS or any(part in prefix for part in self.skipped)

    def pack(self, layer: Any) -> None:
        """Hands the rounded weight over to its operator; the layer keeps no parameter."""
        if layer.stays_plain:
            super().pack(layer)
            return
        layer.packed = self.packed(layer, layer.weight.data, None if layer.bias is None else layer.bias.data)
        layer.weight = layer.bias = None

    def packed(self, layer: Any, weight: Tensor, bias: Tensor | None) -> PackedLinear:
        """What multiplies with the weight [N, K] of ``layer``, once that is rounded."""
        return self.multiply(weight, bias)

    def multiply(self, weight: Tensor, bias: Tensor | None) -> PackedLinear:
        """The ``int8_linear`` of a weight [N, K]."""
        return self.context.operators.int8_linear(*rounded(weight), bias)

    def experts(self, gate_up: Tensor, down: Tensor, gate: Gate, *biases: Tensor | None) -> PackedExperts:
        """Experts on rounded weights; see :func:`openlathe.kernels.experts.experts`."""
        return GroupedExperts(self.multiply, gate_up, down, gate, *biases)


def rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """``weight`` [N, K] -> int8 [N, K] in -127 to 127 and the scale of each row [N] float32.

    By each row's greatest value, a block of rows after the other.
    """
    whole = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    scales = torch.empty(len(weight), dtype=torch.float32, device=weight.device)
    rows = max(1, BLOCK // weight.shape[1])
    for start in range(0, len(weight), rows):
        part = slice(start, start + rows)
        values, factors = round_rows(weight[part])
        whole[part], scales[part] = values.to(torch.int8), factors.squeeze(1)
    return whole, scales
