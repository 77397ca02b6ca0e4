"""Feed-forward layers."""

from __future__ import annotations

from torch import Tensor, nn

from ..kernels import Gate
from .context import BuildContext
from .linear import MergedLinear, RowLinear


class GatedMLP(nn.Module):
    """``down(act(gate(x)) * up(x))`` on ``x`` [T, hidden_size].

    ``gate`` is an operator on [T, 2 * I], gates before values, that answers with [T, I]; by default SwiGLU's.
    """

    def __init__(
        self,
        context: BuildContext,
        hidden_size: int,
        intermediate_size: int,
        *,
        bias: bool = False,
        gate: Gate | None = None,
    ) -> None:
        super().__init__()
        gate = gate or context.operators.silu_mul
        self.gate_up_proj = MergedLinear(context, hidden_size, [intermediate_size] * 2, bias=bias, gate=gate)
        self.down_proj = RowLinear(context, intermediate_size, hidden_size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.gate_up_proj(x))
