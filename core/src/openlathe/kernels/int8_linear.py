"""A linear layer on weights of eight bits with a scale for each output, as a factory: a provider may rearrange them.

Inputs are rounded to eight bits too, each row by its greatest value (Dettmers et al., 2022,
https://arxiv.org/abs/2208.07339, section 2). Sums of products are whole numbers and exact; what they are multiplied
with is rounded in the order given here, so that every provider answers alike, whatever stands beside a row.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .linear import PackedLinear

#: Inputs whose products with eight bits add up in float32 without rounding.
EXACT = 1024
#: The greatest number of inputs whose sums fit 32 bits.
MOST_INPUTS = 131_072


class Int8LinearOperator(Protocol):
    """What provides ``int8_linear``; see :func:`int8_linear`."""

    def __call__(self, weight: Tensor, scales: Tensor, bias: Tensor | None = None) -> PackedLinear: ...


class Int8Linear:
    """The weight as it lies."""

    def __init__(self, weight: Tensor, scales: Tensor, bias: Tensor | None) -> None:
        self.weight: Tensor | None = weight
        self.scales = scales.float()
        self.bias = None if bias is None else bias.float()
        self.nbytes = sum(item.nbytes for item in (weight, self.scales, self.bias) if item is not None)

    def __call__(self, x: Tensor) -> Tensor:
        assert self.weight is not None
        rounded, scales = round_rows(x)
        sums = torch.zeros(len(x), len(self.weight), dtype=torch.int32, device=x.device)
        for inputs, weights in zip(rounded.split(EXACT, 1), self.weight.split(EXACT, 1), strict=True):
            sums += (inputs @ weights.float().T).int()
        y = sums.float() * self.scales * scales
        return (y if self.bias is None else y + self.bias).to(x.dtype)


def int8_linear(weight: Tensor, scales: Tensor, bias: Tensor | None = None) -> PackedLinear:
    """Packs ``weight`` [N, K] int8 in -127 to 127, ``scales`` [N] float32 and ``bias`` [N]; the caller drops them.

    The weight that is meant is ``weight * scales[:, None]``. Raises ``ValueError`` for more than ``MOST_INPUTS``.
    """
    check_int8(weight, scales)
    return Int8Linear(weight, scales, bias)


def round_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """``x`` [..., K] -> whole numbers [..., K] in -127 to 127, and scales [..., 1] that restore them; both float32.

    Halves go to the even neighbour. A row in which something is no number gets a scale that is none.
    """
    x = x.float()
    largest = x.abs().amax(-1, keepdim=True).clamp_min(1e-20)
    limit = torch.full_like(largest, 127)  # by a number, torch would multiply with its reciprocal
    return (x * (limit / largest)).round(), largest / limit


def check_int8(weight: Tensor, scales: Tensor) -> None:
    """Raises ``ValueError`` for what :func:`int8_linear` does not take."""
    if weight.dtype != torch.int8 or weight.dim() != 2 or scales.shape != weight.shape[:1]:
        raise ValueError(
            f"int8_linear takes int8 [N, K] and N scales, not {weight.dtype} {list(weight.shape)} and "
            f"{list(scales.shape)}."
        )
    if weight.shape[1] > MOST_INPUTS:
        raise ValueError(f"int8_linear sums up at most {MOST_INPUTS} inputs, not {weight.shape[1]}.")
