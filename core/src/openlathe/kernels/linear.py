"""The matrix product of a linear layer, as a factory: a provider may rearrange the weight once, at load."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

#: [T, 2 * I], gates before values -> [T, I].
Gate = Callable[[Tensor], Tensor]


class PackedLinear(Protocol):
    """A weight in the form its provider multiplies fastest.

    ``nbytes`` counts all it keeps alive; ``weight`` is the original where it is still in use, None where it was
    rearranged into memory of the provider's own.
    """

    nbytes: int
    weight: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """``x`` [T, K] -> [T, N], or [T, N / 2] where a gate is part of it, in the dtype of ``x``."""
        ...


class PlainLinear:
    """The weight as it lies."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight: Tensor | None = weight
        self.bias = bias
        self.nbytes = weight.nbytes + (bias.nbytes if bias is not None else 0)

    def __call__(self, x: Tensor) -> Tensor:
        assert self.weight is not None
        return F.linear(x, self.weight, self.bias)


class GatedLinear:
    """Another one's output through a gate."""

    def __init__(self, inner: PackedLinear, gate: Gate) -> None:
        self.inner = inner
        self.gate = gate
        self.weight = inner.weight
        self.nbytes = inner.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        return self.gate(self.inner(x))


def gated(packed: PackedLinear, gate: Gate | None) -> PackedLinear:
    """What a provider without gates of its own makes of one."""
    return packed if gate is None else GatedLinear(packed, gate)


def linear(weight: Tensor, bias: Tensor | None = None, gate: Gate | None = None) -> PackedLinear:
    """Packs ``weight`` [N, K] and ``bias`` [N]; the caller drops both afterwards.

    Either may be in float32 in a model of another dtype, which ``x`` is in then too: routers of experts are. ``gate``
    is applied to what the product puts out; a provider that knows it may do so before anything is rounded.
    """
    return gated(PlainLinear(weight, bias), gate)


class LinearOperator(Protocol):
    """What provides ``linear``."""

    def __call__(self, weight: Tensor, bias: Tensor | None = None, gate: Gate | None = None) -> PackedLinear: ...
