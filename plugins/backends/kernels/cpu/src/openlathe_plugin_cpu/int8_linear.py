"""Linear layers on weights of eight bits, packed for sums of bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from openlathe.kernels.int8_linear import check_int8
from openlathe.kernels.linear import PackedLinear

from .calls import arguments, empty, operator
from .linear import NAMES
from .loading import native
from .memory import packed_memory
from .stored import Stored

Arguments = arguments("Int8Linear", pointers="x packed scales bias y", integers="bytes stride rows inputs outputs")


class NativeInt8Linear(Stored):
    """Follows :class:`openlathe.kernels.linear.PackedLinear`; equals the reference to the last bit."""

    FACTS = ("outputs", "inputs")
    MEMORY = ("packed", "scales", "bias")
    weight: Tensor | None = None

    def __init__(self, weight: Tensor, scales: Tensor, bias: Tensor | None) -> None:
        check_int8(weight, scales)
        self.outputs, self.inputs = weight.shape
        weight = weight.contiguous()
        self.packed = packed_memory(native().int8_bytes(self.inputs, self.outputs))
        native().pack_int8(
            weight.data_ptr(), self.inputs, self.outputs, self.packed.data_ptr(), torch.get_num_threads()
        )
        self.scales = padded(scales)
        self.bias = None if bias is None else padded(bias)
        self.ready()

    def ready(self) -> None:
        self.nbytes = sum(item.nbytes for item in (self.packed, self.scales, self.bias) if item is not None)

    def __call__(self, x: Tensor) -> Tensor:
        x = checked(x, self.inputs)
        y = empty((x.shape[0], self.outputs), x.dtype)
        bias = None if self.bias is None else self.bias.data_ptr()
        operator("int8_linear")(
            Arguments(
                *(x.data_ptr(), self.packed.data_ptr(), self.scales.data_ptr(), bias, y.data_ptr()),
                *(x.itemsize, x.stride(0), x.shape[0], self.inputs, self.outputs),
            )
        )
        return y


def int8_linear(weight: Tensor, scales: Tensor, bias: Tensor | None = None) -> PackedLinear:
    """:func:`openlathe.kernels.int8_linear.int8_linear`."""
    return NativeInt8Linear(weight, scales, bias)


def padded(values: Tensor) -> Tensor:
    """One for each output in float32, with zeros up to whole panels."""
    out = torch.zeros(native().int8_outputs(len(values)), dtype=torch.float32)
    out[: len(values)] = values
    return out


def checked(x: Tensor, inputs: int) -> Tensor:
    """``x`` [T, K] as the operators read it; raises ``TypeError`` or ``ValueError`` for what they cannot."""
    if x.dtype not in NAMES:
        raise TypeError(f"A native linear layer takes bfloat16 and float32, not {x.dtype}.")
    if x.shape[1] != inputs:
        raise ValueError(f"A linear layer of {inputs} inputs was given {x.shape[1]}.")
    return x if x.stride(1) == 1 else x.contiguous()
