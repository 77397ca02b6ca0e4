"""What every layer is built with: dtypes, device and the operators chosen for this engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ..kernels import OPERATORS, Operators
from ..spi import LinearMethod
from .linear import PlainLinearMethod
from .staging import Staging

if TYPE_CHECKING:
    from ..plugins.plan import Plan


@dataclass(slots=True, kw_only=True)
class BuildContext:
    """Passed to a model, its layers and its attention backends when they are built.

    Attributes:
        dtype: of weights and activations; ``kv_dtype``: of the pages of the KV cache.
        max_model_len: positions that tables must cover.
        staging: where the parts of a weight are put together that its operator will rearrange.
        linear_method: how linear layers store and apply their weights; plain unless a quantization was chosen.
    """

    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    kv_dtype: torch.dtype = torch.float32
    block_size: int = 16
    max_model_len: int = 4096
    operators: Operators = field(default_factory=Operators)
    staging: Staging = field(default_factory=Staging)
    linear_method: LinearMethod = field(init=False)

    def __post_init__(self) -> None:
        self.linear_method = PlainLinearMethod(self)


def build_context(plan: Plan) -> BuildContext:
    """The context of a plan, with its ``kernel.*`` and ``linear`` slots resolved; raises ``PluginError``."""
    providers: dict[str, Any] = {name: plan.resolve(f"kernel.{name}") for name in OPERATORS}
    context = BuildContext(
        dtype=torch_dtype(plan.dtype),
        device=torch.device(plan.device.type),
        kv_dtype=torch_dtype(plan.kv_dtype),
        block_size=plan.block_size,
        max_model_len=plan.max_model_len,
        operators=Operators(**providers),
    )
    context.linear_method = plan.resolve("linear")(context, plan.choices["linear"].options)
    return context


def torch_dtype(name: str) -> torch.dtype:
    """``"bfloat16"`` -> ``torch.bfloat16``."""
    return getattr(torch, name)
