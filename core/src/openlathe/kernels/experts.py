"""The feed-forward networks of a mixture of experts (Shazeer et al., 2017, https://arxiv.org/abs/1701.06538), as a
factory: a provider may rearrange the weights once, at load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from torch import Tensor

from .linear import Gate, PackedLinear, linear


class PackedExperts(Protocol):
    """The weights of a layer's experts as their provider multiplies them fastest; ``nbytes`` counts all it keeps."""

    nbytes: int

    def __call__(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """The weighted sum of what the chosen experts make of each token.

        ``x`` [T, H], ``chosen`` [T, K] int64, no expert twice for a token, ``weights`` [T, K] float32 -> [T, H] in the
        dtype of ``x``. Sums in float32, in the order of the experts' numbers; reads no other experts' weights.
        """
        ...


class ExpertsOperator(Protocol):
    """What provides ``experts``; see :func:`experts`."""

    def __call__(
        self,
        gate_up: Tensor,
        down: Tensor,
        gate: Gate,
        gate_up_bias: Tensor | None = None,
        down_bias: Tensor | None = None,
    ) -> PackedExperts: ...


class GroupedExperts:
    """Follows :class:`PackedExperts`: each expert that has tokens multiplies all of them at once.

    ``multiply`` is the ``linear`` operator that packs each expert's two matrices; the rest is :func:`experts`'s.
    """

    def __init__(
        self,
        multiply: Callable[[Tensor, Tensor | None], PackedLinear],
        gate_up: Tensor,
        down: Tensor,
        gate: Gate,
        gate_up_bias: Tensor | None = None,
        down_bias: Tensor | None = None,
    ) -> None:
        self.gate = gate
        self.gate_up = [multiply(*part) for part in _experts(gate_up, gate_up_bias)]
        self.down = [multiply(*part) for part in _experts(down, down_bias)]
        self.nbytes = sum(packed.nbytes for packed in (*self.gate_up, *self.down))

    def __call__(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        total = torch.zeros(x.shape, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        for expert, tokens, shares in _groups(chosen, weights):
            out = self.down[expert](self.gate(self.gate_up[expert](x[tokens])))
            # A token has an expert once, so that no two rows of this meet in one place.
            total[tokens] += out * shares
        return total.to(x.dtype)


def experts(
    gate_up: Tensor,
    down: Tensor,
    gate: Gate,
    gate_up_bias: Tensor | None = None,
    down_bias: Tensor | None = None,
) -> PackedExperts:
    """Packs ``gate_up`` [E, 2 * I, H] and ``down`` [E, H, I] with their biases [E, 2 * I] and [E, H]; the caller drops
    them afterwards. Expert e makes of a token ``down[e] @ gate(gate_up[e] @ x)``."""
    return GroupedExperts(linear, gate_up, down, gate, gate_up_bias, down_bias)


def _experts(weight: Tensor, bias: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    return zip(weight.unbind(), [None] * len(weight) if bias is None else bias.unbind(), strict=True)


def _groups(chosen: Tensor, weights: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Each expert that has tokens, ascending, with these tokens [N] and their weights [N, 1]."""
    experts, order = chosen.flatten().sort(stable=True)
    numbers, counts = experts.unique_consecutive(return_counts=True)
    sizes = counts.tolist()
    tokens, shares = order // chosen.shape[1], weights.reshape(-1, 1)[order]
    return zip(numbers.tolist(), tokens.split(sizes), shares.split(sizes), strict=True)
