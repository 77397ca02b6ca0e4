"""Mixtures of experts: which experts a token goes to, their networks, and the feed-forward layer made of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..kernels import PackedExperts, PackedLinear
from .context import BuildContext
from .linear import Linear
from .weights import Part, check_shape, copy_exact, materialise, placeholder

# -- routing ------------------------------------------------------------------------------------------------------

#: ``(logits [T, E] float32, correction [E] float32 or None) -> (weights [T, K] float32, chosen [T, K] int64)``; the
#: functions here with what follows their two arguments filled in.
Route = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class ExpertGroups:
    """Experts in ``count`` groups of neighbours, of which a token may choose from ``kept``; a group is as good as its
    ``best`` experts together (DeepSeek-AI, 2024, https://arxiv.org/abs/2405.04434, section 2.2.2)."""

    count: int
    kept: int
    best: int

    def keep(self, scores: Tensor) -> Tensor:
        """``scores`` [T, E], minus infinity in the groups that are out of the question."""
        grouped = scores.unflatten(-1, (self.count, -1))
        kept = grouped.topk(self.best).values.sum(-1).topk(self.kept).indices
        barred = torch.ones(grouped.shape[:-1], dtype=torch.bool, device=scores.device).scatter_(-1, kept, False)
        return grouped.masked_fill(barred.unsqueeze(-1), -torch.inf).flatten(-2)


def route_softmax(
    logits: Tensor,
    correction: Tensor | None = None,
    *,
    top_k: int,
    normalize: bool,
    scale: float = 1.0,
    groups: ExpertGroups | None = None,
) -> tuple[Tensor, Tensor]:
    """The most probable experts; ``normalize``: their weights add up to ``scale``, else they are probabilities."""
    return _choose(logits.softmax(-1), correction, top_k, normalize, scale, groups)


def route_sigmoid(
    logits: Tensor,
    correction: Tensor | None = None,
    *,
    top_k: int,
    normalize: bool,
    scale: float = 1.0,
    groups: ExpertGroups | None = None,
) -> tuple[Tensor, Tensor]:
    """Experts scored one by one (DeepSeek-AI, 2024, https://arxiv.org/abs/2412.19437, section 2.1.2)."""
    return _choose(_sigmoid(logits), correction, top_k, normalize, scale, groups)


def route_softmax_of_chosen(logits: Tensor, correction: Tensor | None = None, *, top_k: int) -> tuple[Tensor, Tensor]:
    """The experts of the greatest logits, weighted by the softmax over these alone."""
    chosen = (logits if correction is None else logits + correction).topk(top_k).indices
    return logits.gather(-1, chosen).softmax(-1), chosen


def _choose(
    scores: Tensor, correction: Tensor | None, top_k: int, normalize: bool, scale: float, groups: ExpertGroups | None
) -> tuple[Tensor, Tensor]:
    """The correction has a say in the choice and none in the weights."""
    candidates = scores if correction is None else scores + correction
    chosen = (candidates if groups is None else groups.keep(candidates)).topk(top_k).indices
    weights = scores.gather(-1, chosen)
    if normalize:
        weights = weights / weights.sum(-1, keepdim=True).clamp_min(1e-20)
    return weights * scale, chosen


def _sigmoid(x: Tensor) -> Tensor:
    """By the exponential, which rounds alike wherever an element lies; ``torch.sigmoid`` does not."""
    return 1 / (1 + torch.exp(-x))


class Router(nn.Module):
    """Chooses the experts of each token. Its product and all that follows are in float32, whatever the model's dtype:
    a rounding of close logits would send tokens elsewhere.

    ``correction``: the checkpoint has an ``e_score_correction_bias`` [E].
    """

    packed: PackedLinear

    def __init__(
        self,
        context: BuildContext,
        hidden_size: int,
        num_experts: int,
        route: Route | Callable[..., tuple[Tensor, Tensor]],
        *,
        bias: bool = False,
        correction: bool = False,
    ) -> None:
        super().__init__()
        self.multiply = context.operators.linear
        self.route = route
        self.weight: nn.Parameter | None = placeholder(num_experts, hidden_size, dtype=torch.float32)
        self.bias = placeholder(num_experts, dtype=torch.float32) if bias else None
        self.e_score_correction_bias = placeholder(num_experts, dtype=torch.float32) if correction else None

    def pack(self) -> None:
        assert self.weight is not None
        self.packed = self.multiply(self.weight.data, None if self.bias is None else self.bias.data)
        self.weight = self.bias = None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` [T, H] -> weights [T, K] float32, chosen experts [T, K] int64."""
        return self.route(self.packed(x.float()), self.e_score_correction_bias)


# -- experts ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ExpertLayout:
    """How a checkpoint holds a layer's experts.

    Attributes:
        fused: as ``gate_up_proj`` [E, 2 * I, H] and ``down_proj`` [E, H, I], with ``_bias`` appended for their biases;
            else expert by expert, as ``N.gate_proj.weight``, ``N.up_proj.weight`` and ``N.down_proj.weight``.
        transposed: the fused tensors have inputs before outputs.
        interleaved: rows of gates and values take turns in the fused ones, instead of all gates coming first.
    """

    fused: bool = False
    transposed: bool = False
    interleaved: bool = False


class Experts(nn.Module):
    """The networks of ``num_experts`` experts; the ``experts`` operator multiplies and may rearrange them once loaded.

    ``gate`` is an operator on [N, 2 * I], gates before values, that answers with [N, I]; by default SwiGLU's.
    """

    packed: PackedExperts

    def __init__(
        self,
        context: BuildContext,
        num_experts: int,
        hidden_size: int,
        intermediate_size: int,
        *,
        bias: bool = False,
        gate: Callable[[Tensor], Tensor] | None = None,
        layout: ExpertLayout | None = None,
    ) -> None:
        super().__init__()
        self.context = context
        self.gate = gate or context.operators.silu_mul
        self.layout = layout or ExpertLayout()
        shapes = {"gate_up_proj": (2 * intermediate_size, hidden_size), "down_proj": (hidden_size, intermediate_size)}
        for name, shape in shapes.items():
            setattr(self, name, placeholder(num_experts, *shape, dtype=context.dtype))
            has_bias = placeholder(num_experts, shape[0], dtype=context.dtype) if bias else None
            setattr(self, f"{name}_bias", has_bias)

    def weight_parts(self) -> dict[Part, tuple[int, ...]]:
        """As the layout has them; gates and values of one expert are two shards of its ``gate_up_proj``."""
        parts: dict[Part, tuple[int, ...]] = {}
        for name, parameter in self.named_parameters(recurse=False):
            experts, rows, *inputs = parameter.shape
            if self.layout.fused:
                shape = (*inputs, rows) if self.layout.transposed else (rows, *inputs)
                parts[name, None] = (experts, *shape)
                continue
            projection, leaf = (name.removesuffix("_bias"), "bias" if name.endswith("_bias") else "weight")
            shards = (0, 1) if projection == "gate_up_proj" else (None,)
            for expert in range(experts):
                for shard in shards:
                    parts[f"{expert}.{projection}.{leaf}", shard] = (rows // len(shards), *inputs)
        return parts

    def load_weight(self, name: str, shard: int | None, tensor: Tensor) -> None:
        """Copies ``tensor`` into its place; raises ``Misfit``."""
        if self.layout.fused:
            self._load_fused(name, tensor)
            return
        expert, projection, leaf = name.split(".")
        target = materialise(self, projection if leaf == "weight" else f"{projection}_bias", self.context.device)
        part = target[int(expert)]
        copy_exact(part if shard is None else part.chunk(2)[shard], tensor)

    def _load_fused(self, name: str, tensor: Tensor) -> None:
        check_shape(tensor, self.weight_parts()[name, None])
        target = materialise(self, name, self.context.device)
        if self.layout.transposed and tensor.dim() == 3:
            tensor = tensor.mT
        if self.layout.interleaved and name.startswith("gate_up_proj"):
            tensor = tensor.unflatten(1, (-1, 2)).transpose(1, 2)
            target = target.unflatten(1, (2, -1))
        copy_exact(target, tensor)

    def pack(self) -> None:
        """Hands the weights over to the operator; the layer keeps no parameter."""
        names = ("gate_up_proj", "down_proj", "gate_up_proj_bias", "down_proj_bias")
        gate_up, down, *biases = (None if (item := getattr(self, name)) is None else item.data for name in names)
        assert gate_up is not None
        assert down is not None
        # A linear method that stores weights in a form of its own does so with those of experts as well.
        experts = getattr(self.context.linear_method, "experts", self.context.operators.experts)
        self.packed = experts(gate_up, down, self.gate, *biases)
        for name in names:
            setattr(self, name, None)

    def forward(self, x: Tensor, weights: Tensor, chosen: Tensor) -> Tensor:
        """``x`` [T, H], ``weights`` [T, K] float32, ``chosen`` [T, K] int64 -> [T, H]."""
        return self.packed(x, chosen, weights)


# -- the layer ----------------------------------------------------------------------------------------------------


class SparseMoE(nn.Module):
    """The experts that ``gate`` chooses for each token of ``x`` [T, H], and those that all tokens go through besides.

    ``shared_expert_gate``, with one output, says how much of the shared experts each token gets.
    """

    def __init__(
        self,
        gate: Router,
        experts: Experts,
        shared_experts: nn.Module | None = None,
        shared_expert_gate: Linear | None = None,
    ) -> None:
        super().__init__()
        self.gate = gate
        self.experts = experts
        self.shared_experts = shared_experts
        self.shared_expert_gate = shared_expert_gate

    def forward(self, x: Tensor) -> Tensor:
        out = self.experts(x, *self.gate(x))
        if self.shared_experts is None:
            return out
        shared = self.shared_experts(x)
        if self.shared_expert_gate is not None:
            shared = shared * _sigmoid(self.shared_expert_gate(x).float()).to(x.dtype)
        return out + shared
