"""Mixtures of experts in one call a layer, on matrices that are packed as those of linear layers are."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from openlathe.kernels.experts import GroupedExperts, PackedExperts
from openlathe.kernels.linear import Gate

from .calls import arguments, empty, operator
from .linear import NAMES, gate_number, linear, packed

Experts: Any = arguments(
    "Experts",
    pointers="x chosen weights gate_up down gate_up_bias down_bias y",
    integers="stride tokens top_k experts hidden inner gate",
)


class NativeExperts:
    """Follows :class:`openlathe.kernels.experts.PackedExperts`.

    Of what an expert computes for a token, the inside of its network alone is rounded to the dtype of ``x``.
    """

    def __init__(
        self, gate_up: Tensor, down: Tensor, gate: int, gate_up_bias: Tensor | None, down_bias: Tensor | None
    ) -> None:
        self.dtype = gate_up.dtype
        self.gate_up, self.gate_up_bias = packed(gate_up, gate_up_bias, gate)
        self.down, self.down_bias = packed(down, down_bias)
        tensors = (self.gate_up, self.down, self.gate_up_bias, self.down_bias)
        self.nbytes = sum(tensor.nbytes for tensor in tensors if tensor is not None)
        experts, hidden, inner = down.shape
        pointers = (None if tensor is None else tensor.data_ptr() for tensor in tensors)
        self._given = Experts(
            **dict(zip(("gate_up", "down", "gate_up_bias", "down_bias"), pointers, strict=True)),
            experts=experts,
            hidden=hidden,
            inner=inner,
            gate=gate,
        )
        self._run = operator(f"experts_{NAMES[self.dtype]}")

    def __call__(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        if x.dtype != self.dtype:
            raise TypeError(f"Experts in {self.dtype} were given {x.dtype}.")
        if x.stride(1) != 1:
            x = x.contiguous()
        chosen, weights = chosen.contiguous(), weights.contiguous()
        y = empty(x.shape, x.dtype)
        given = Experts.from_buffer_copy(self._given)
        given.x, given.chosen, given.weights = x.data_ptr(), chosen.data_ptr(), weights.data_ptr()
        given.y, given.stride = y.data_ptr(), x.stride(0)
        given.tokens, given.top_k = chosen.shape
        self._run(given)
        return y


def experts(
    gate_up: Tensor,
    down: Tensor,
    gate: Gate,
    gate_up_bias: Tensor | None = None,
    down_bias: Tensor | None = None,
) -> PackedExperts:
    """:func:`openlathe.kernels.experts.experts`; gates without a native function run between two linear layers."""
    number = gate_number(gate)
    if number and gate_up.dtype in NAMES:
        return NativeExperts(gate_up, down, number, gate_up_bias, down_bias)
    return GroupedExperts(linear, gate_up, down, gate, gate_up_bias, down_bias)
