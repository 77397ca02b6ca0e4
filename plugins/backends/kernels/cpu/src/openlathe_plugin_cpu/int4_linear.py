"""Linear layers on weights of four bits, packed for sums of bytes and unpacked in registers."""

from __future__ import annotations

import torch
from torch import Tensor

from openlathe.kernels.int4_linear import check_int4
from openlathe.kernels.linear import PackedLinear

from .calls import arguments, empty, operator
from .int8_linear import checked, padded
from .loading import native
from .memory import packed_memory
from .stored import Stored

Arguments = arguments(
    "Int4Linear", pointers="x packed bias y", integers="bytes stride rows inputs outputs group half zeros"
)


class NativeInt4Linear(Stored):
    """Follows :class:`openlathe.kernels.linear.PackedLinear`; equals the reference to the last bit."""

    FACTS = ("outputs", "inputs", "group", "is_half", "has_zeros")
    MEMORY = ("packed", "bias")
    weight: Tensor | None = None

    def __init__(self, weight: Tensor, scales: Tensor, zeros: Tensor | None, bias: Tensor | None) -> None:
        self.group = check_int4(weight, scales, zeros)
        self.outputs, self.inputs = weight.shape
        self.is_half, self.has_zeros = scales.dtype == torch.float16, zeros is not None
        self.packed = packed_memory(native().int4_bytes(self.inputs, self.outputs, self.group, self.has_zeros))
        weight, scales, points = weight.contiguous(), scales.contiguous(), None if zeros is None else zeros.contiguous()
        native().pack_int4(
            *(weight.data_ptr(), scales.data_ptr(), None if points is None else points.data_ptr()),
            *(self.inputs, self.outputs, self.group, self.packed.data_ptr(), torch.get_num_threads()),
        )
        self.bias = None if bias is None else padded(bias)
        self.ready()

    def ready(self) -> None:
        self.nbytes = self.packed.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def __call__(self, x: Tensor) -> Tensor:
        x = checked(x, self.inputs)
        y = empty((x.shape[0], self.outputs), x.dtype)
        bias = None if self.bias is None else self.bias.data_ptr()
        operator("int4_linear")(
            Arguments(
                *(x.data_ptr(), self.packed.data_ptr(), bias, y.data_ptr()),
                *(x.itemsize, x.stride(0), x.shape[0], self.inputs, self.outputs),
                *(self.group, self.is_half, self.has_zeros),
            )
        )
        return y


def int4_linear(
    weight: Tensor, scales: Tensor, zeros: Tensor | None = None, bias: Tensor | None = None
) -> PackedLinear:
    """:func:`openlathe.kernels.int4_linear.int4_linear`."""
    return NativeInt4Linear(weight, scales, zeros, bias)
