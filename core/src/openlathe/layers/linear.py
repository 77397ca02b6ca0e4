"""Linear layers. What they store and how they multiply is their :class:`~openlathe.spi.LinearMethod`'s business.

The names say how a layer would be split over several devices, so that model code need not know: the rows of
:class:`MergedLinear` and :class:`QKVLinear` are divided, :class:`RowLinear` divides its inputs and adds up, a plain
:class:`Linear` is whole everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..kernels import Gate, PackedLinear
from .weights import Part, copy_exact, place, placeholder

if TYPE_CHECKING:
    from .context import BuildContext


class Linear(nn.Module):
    """``x`` [T, in] -> [T, sum(out)]; ``out_features`` lists the rows of each shard the checkpoint keeps apart."""

    gate: Gate | None = None

    def __init__(
        self, context: BuildContext, in_features: int, out_features: int | Sequence[int], *, bias: bool = False
    ) -> None:
        super().__init__()
        self.method = context.linear_method
        self.in_features = in_features
        self.out_features = (out_features,) if isinstance(out_features, int) else tuple(out_features)
        self.has_bias = bias

    def bind(self, prefix: str) -> None:
        """Creates the parameters; called by the loader with the module's name once the model is built."""
        self.method.create(self, prefix, self.in_features, self.out_features, self.has_bias)

    def weight_parts(self) -> dict[Part, tuple[int, ...]]:
        """Every parameter the method created, once per shard where there are several."""
        parts: dict[Part, tuple[int, ...]] = {}
        for name, parameter in self.named_parameters(recurse=False):
            if len(self.out_features) == 1:
                parts[name, None] = tuple(parameter.shape)
            else:
                parts |= {(name, i): (rows, *parameter.shape[1:]) for i, rows in enumerate(self.out_features)}
        return parts

    def load_weight(self, name: str, shard: int | None, tensor: Tensor) -> None:
        self.method.load(self, name, shard, tensor)

    def pack(self) -> None:
        self.method.pack(self)

    def restore(self, packed: Any, *, gated: bool) -> None:
        """Takes what an earlier :meth:`pack` has made, ``gated`` where the gate is part of it; the layer keeps no
        parameter and waits for none."""
        for name, _ in list(self.named_parameters(recurse=False)):
            setattr(self, name, None)
        if gated:
            self.gate = None
        self.packed = packed

    def forward(self, x: Tensor) -> Tensor:
        return self.method.apply(self, x)


class RowLinear(Linear):
    """A layer whose inputs are what divided layers before it put out: the last one of attention and of an MLP."""


class MergedLinear(Linear):
    """Several projections of one input as one product: an MLP's gate and up projections, and the ``gate`` that makes
    one of both. A linear method that can gate what it multiplies takes it over by leaving None in its place."""

    def __init__(
        self,
        context: BuildContext,
        in_features: int,
        out_features: Sequence[int],
        *,
        bias: bool = False,
        gate: Gate | None = None,
    ) -> None:
        super().__init__(context, in_features, out_features, bias=bias)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y if self.gate is None else self.gate(y)


class QKVLinear(Linear):
    """The query, key and value projections as one product."""

    def __init__(
        self,
        context: BuildContext,
        in_features: int,
        *,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        bias: bool = False,
    ) -> None:
        heads = (num_heads, num_kv_heads, num_kv_heads)
        super().__init__(context, in_features, [count * head_dim for count in heads], bias=bias)
        self.heads = heads
        self.head_dim = head_dim

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # type: ignore[override]
        """``x`` [T, in] -> q [T, heads, D], k and v [T, kv_heads, D], views of one tensor."""
        q, k, v = super().forward(x).view(x.shape[0], -1, self.head_dim).split_with_sizes(self.heads, dim=1)
        return q, k, v


class PlainLinearMethod:
    """Weights in the model's dtype; the ``linear`` operator multiplies them and may rearrange them once loaded."""

    def __init__(self, context: BuildContext, options: Mapping[str, Any] | None = None) -> None:
        self.context = context

    def create(self, layer: Any, prefix: str, in_features: int, out_features: Sequence[int], bias: bool) -> None:
        """Registers ``weight`` [sum(out), in] and ``bias`` [sum(out)], without memory."""
        layer.weight = placeholder(sum(out_features), in_features, dtype=self.context.dtype)
        layer.bias = placeholder(sum(out_features), dtype=self.context.dtype) if bias else None

    def load(self, layer: Any, name: str, shard: int | None, tensor: Tensor) -> None:
        """Copies ``tensor`` into its rows, or takes it as it lies where it has them all; raises ``Misfit``."""
        if shard is None:
            place(layer, name, tensor, self.context.device)
            return
        parameter = getattr(layer, name)
        if parameter.is_meta:
            memory = self._memory(parameter.shape, parameter.dtype)
            parameter = nn.Parameter(memory, requires_grad=False)
            setattr(layer, name, parameter)
        copy_exact(parameter.data.split(layer.out_features)[shard], tensor)

    def _memory(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        device = self.context.device
        if device.type == "cpu":
            return self.context.staging.empty(shape, dtype)
        return torch.empty(shape, dtype=dtype, device=device)

    def pack(self, layer: Any) -> None:
        """Hands the weight over to the operator; the layer keeps no parameter."""
        bias = None if layer.bias is None else layer.bias.data
        packed: PackedLinear = self.context.operators.linear(layer.weight.data, bias, layer.gate)
        layer.weight = layer.bias = layer.gate = None
        layer.packed = packed

    def apply(self, layer: Any, x: Tensor) -> Tensor:
        return layer.packed(x)
