"""Feed-forward layers."""

from __future__ import annotations

from torch import Tensor, nn

from .context import BuildContext
from .linear import MergedLinear, RowLinear


class GatedMLP(nn.Module):
    """SwiGLU: ``down(silu(gate(x)) * up(x))`` on ``x`` [T, hidden_size]."""

    def __init__(self, context: BuildContext, hidden_size: int, intermediate_size: int, *, bias: bool = False) -> None:
        super().__init__()
        self.operators = context.operators
        self.gate_up_proj = MergedLinear(context, hidden_size, [intermediate_size] * 2, bias=bias)
        self.down_proj = RowLinear(context, intermediate_size, hidden_size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.operators.silu_mul(self.gate_up_proj(x)))
