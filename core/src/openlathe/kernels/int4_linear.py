"""A linear layer on weights of four bits in groups of neighbouring inputs, as a factory: a provider may rearrange them.

Each group of a row has a scale and a zero point, which is how AWQ and GPTQ store weights (Lin et al., 2023,
https://arxiv.org/abs/2306.00978; Frantar et al., 2022, https://arxiv.org/abs/2210.17323). Inputs are rounded to eight
bits in the same groups, so that a great one costs its neighbours their precision and nobody else. The products of a
group add up in whole numbers and exactly; groups add up in float32 and in their order.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .int8_linear import round_rows
from .linear import PackedLinear

#: Where zero lies if no zero points are given.
MIDDLE = 8
#: Inputs of a group: a multiple of the first, at most the second.
GROUP_MULTIPLE, GROUP_MOST = 8, 512


class Int4LinearOperator(Protocol):
    """What provides ``int4_linear``; see :func:`int4_linear`."""

    def __call__(
        self, weight: Tensor, scales: Tensor, zeros: Tensor | None = None, bias: Tensor | None = None
    ) -> PackedLinear: ...


class Int4Linear:
    """The weight as it lies, a byte for each element."""

    def __init__(self, weight: Tensor, scales: Tensor, zeros: Tensor | None, bias: Tensor | None) -> None:
        self.weight: Tensor | None = weight
        self.scales, self.zeros = scales, zeros
        self.bias = None if bias is None else bias.float()
        self.nbytes = sum(item.nbytes for item in (weight, scales, zeros, self.bias) if item is not None)

    def __call__(self, x: Tensor) -> Tensor:
        assert self.weight is not None
        groups = self.scales.shape[1]
        size = x.shape[1] // groups
        inputs, factors = round_rows(x.unflatten(1, (groups, size)))
        y = torch.zeros(len(x), len(self.weight), device=x.device)
        for group in range(groups):
            zeros = MIDDLE if self.zeros is None else self.zeros[:, group, None].float()
            weights = self.weight[:, group * size : (group + 1) * size].float() - zeros
            y += inputs[:, group] @ weights.T * self.scales[:, group].float() * factors[:, group]
        return (y if self.bias is None else y + self.bias).to(x.dtype)


def int4_linear(
    weight: Tensor, scales: Tensor, zeros: Tensor | None = None, bias: Tensor | None = None
) -> PackedLinear:
    """Packs ``weight`` [N, K] uint8 in 0 to 15, ``scales`` [N, K / group] in float16 or bfloat16, ``zeros``
    [N, K / group] uint8 in 0 to 16 (8 where None) and ``bias`` [N]; the caller drops them.

    The weight that is meant is ``(weight - zeros) * scales``, group by group. Raises ``ValueError`` for other groups
    than a multiple of 8 and at most 512 inputs.
    """
    check_int4(weight, scales, zeros)
    return Int4Linear(weight, scales, zeros, bias)


def check_int4(weight: Tensor, scales: Tensor, zeros: Tensor | None) -> int:
    """The inputs of a group; raises ``ValueError`` for what :func:`int4_linear` does not take."""
    outputs, inputs = weight.shape
    size = inputs // scales.shape[1]
    if weight.dtype != torch.uint8 or scales.dtype not in (torch.float16, torch.bfloat16):
        raise ValueError(f"int4_linear takes uint8 with float16 or bfloat16, not {weight.dtype} with {scales.dtype}.")
    if scales.shape[0] != outputs or size * scales.shape[1] != inputs or size % GROUP_MULTIPLE or size > GROUP_MOST:
        raise ValueError(
            f"int4_linear takes groups of a multiple of {GROUP_MULTIPLE} and at most {GROUP_MOST} inputs; "
            f"{list(weight.shape)} and {list(scales.shape)} make no such groups."
        )
    if zeros is not None and (zeros.dtype != torch.uint8 or zeros.shape != scales.shape):
        raise ValueError(f"int4_linear takes zero points as uint8 {list(scales.shape)}, not {zeros.dtype}.")
    return size
