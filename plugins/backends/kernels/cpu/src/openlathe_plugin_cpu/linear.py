"""Linear layers on weights packed for the vectors of this CPU: one copy, for any number of rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from openlathe.kernels.linear import Gate, PackedLinear, PlainLinear, gated

from .calls import arguments, empty, operator
from .loading import native
from .memory import packed_memory
from .stored import Stored

#: The dtypes that the native library has functions for, and how its names spell them.
NAMES = {torch.bfloat16: "bfloat16", torch.float32: "float32"}

Pack: Any = arguments("Pack", pointers="weight bias packed packed_bias", integers="inputs outputs gate")
Linear: Any = arguments("Linear", pointers="x packed bias residual y", integers="stride rows inputs outputs gate")


class NativeLinear(Stored):
    """Follows :class:`openlathe.kernels.linear.PackedLinear`.

    An output is the sum over the inputs in their order, whatever the number of rows; bias, gate and residual are
    applied to it in float32, and the result is rounded once. ``gate`` is a number of native/panels.h.
    """

    FACTS = ("outputs", "inputs", "gate", "kind")
    MEMORY = ("packed", "bias")
    weight: Tensor | None = None

    def __init__(self, weight: Tensor, bias: Tensor | None, gate: int = 0) -> None:
        rows, self.inputs = weight.shape
        self.outputs = rows // 2 if gate else rows
        self.gate, self.kind = gate, NAMES[weight.dtype]
        self.packed, self.bias = packed(weight, bias, gate)
        self.ready()

    def ready(self) -> None:
        self.dtype = getattr(torch, self.kind)
        self.nbytes = self.packed.nbytes + (self.bias.nbytes if self.bias is not None else 0)
        self._given = Linear(
            packed=self.packed.data_ptr(),
            bias=self.bias.data_ptr() if self.bias is not None else None,
            inputs=self.inputs,
            outputs=self.outputs,
            gate=self.gate,
        )
        self._multiply = operator(f"linear_{self.kind}")

    def __call__(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """``residual`` [T, N] is added to the product; neither is changed."""
        if x.dtype != self.dtype:
            raise TypeError(f"A linear layer in {self.dtype} was given {x.dtype}.")
        rows, inputs = x.shape
        if inputs != self.inputs:
            raise ValueError(f"A linear layer of {self.inputs} inputs was given {inputs}.")
        stride, step = x.stride()
        if step != 1:
            x, stride = x.contiguous(), inputs
        y = empty((rows, self.outputs), self.dtype)
        given = Linear.from_buffer_copy(self._given)
        given.x, given.y, given.stride, given.rows = x.data_ptr(), y.data_ptr(), stride, rows
        if residual is not None:
            if residual.dtype != self.dtype or residual.shape != y.shape or not residual.is_contiguous():
                raise ValueError(f"A residual is contiguous, [{rows}, {self.outputs}] and in {self.dtype}.")
            given.residual = residual.data_ptr()
        self._multiply(given)
        return y


def linear(weight: Tensor, bias: Tensor | None = None, gate: Gate | None = None) -> PackedLinear:
    """:func:`openlathe.kernels.linear.linear`; weights of other dtypes stay as they lie."""
    if weight.dtype not in NAMES:
        return gated(PlainLinear(weight, bias), gate)
    if number := gate_number(gate):
        return NativeLinear(weight, bias, number)
    return gated(NativeLinear(weight, bias), gate)


def gate_number(gate: Gate | None) -> int:
    """How native/panels.h numbers a gate; 0 for one that the native operators do not know."""
    from .gates import NUMBERS  # which reads the names of dtypes here

    return 0 if gate is None else NUMBERS.get(gate, 0)


def packed(weight: Tensor, bias: Tensor | None, gate: int = 0) -> tuple[Tensor, Tensor | None]:
    """``weight`` [..., N, K] and ``bias`` [..., N] in panels, one matrix after the other."""
    rows, inputs = weight.shape[-2:]
    outputs = rows // 2 if gate else rows
    columns, steps = native().packed_columns(outputs, gate), -(-inputs * weight.itemsize // 4)
    matrices = weight.contiguous().view(-1, rows, inputs)
    words = packed_memory(4 * len(matrices) * columns * steps).view(len(matrices), -1)
    biases = None if bias is None else bias.float().contiguous().view(len(matrices), rows)
    room = None if bias is None else torch.empty(len(matrices), columns, dtype=torch.float32)
    pack = operator(f"pack_{NAMES[weight.dtype]}")
    for i, matrix in enumerate(matrices):
        given = Pack(matrix.data_ptr(), packed=words[i].data_ptr(), inputs=inputs, outputs=outputs, gate=gate)
        if biases is not None and room is not None:
            given.bias, given.packed_bias = biases[i].data_ptr(), room[i].data_ptr()
        pack(given)
    return words, room
