"""Rotary position embeddings: the frequencies of each variant, and the layer that applies them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..spi import CheckpointError
from .context import BuildContext
from .hf_config import RopeParameters

#: (theta, rotary dimension, the numbers of ``rope_scaling``) -> (R / 2 frequencies, factor on cosines and sines).
Frequencies = Callable[[float, int, Mapping[str, Any]], tuple[Tensor, float]]


def default_frequencies(theta: float, dim: int, scaling: Mapping[str, Any]) -> tuple[Tensor, float]:
    """theta ** (-2i / dim), computed in float32 as the models were trained with."""
    return 1.0 / theta ** (torch.arange(0, dim, 2).float() / dim), 1.0


def linear_frequencies(theta: float, dim: int, scaling: Mapping[str, Any]) -> tuple[Tensor, float]:
    """Position interpolation (Chen et al., 2023, https://arxiv.org/abs/2306.15595)."""
    return default_frequencies(theta, dim, scaling)[0] / scaling["factor"], 1.0


def yarn_frequencies(theta: float, dim: int, scaling: Mapping[str, Any]) -> tuple[Tensor, float]:
    """YaRN (Peng et al., 2023, https://arxiv.org/abs/2309.00071, section 3.2): slow frequencies are interpolated,
    fast ones kept, with a ramp in between; the factor stands for the temperature of section 3.4."""
    factor, original = scaling["factor"], scaling["original_max_position_embeddings"]

    def index_of(turns: float) -> float:
        """The frequency index that makes ``turns`` turns over the original context."""
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = index_of(scaling.get("beta_fast") or 32), index_of(scaling.get("beta_slow") or 1)
    if scaling.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    ramp = (torch.arange(dim // 2).float() - low) / (high - low or 0.001)
    kept = 1.0 - ramp.clamp(0, 1)
    plain = default_frequencies(theta, dim, scaling)[0]
    return plain / factor * (1 - kept) + plain * kept, _yarn_attention_factor(factor, scaling)


def _yarn_attention_factor(factor: float, scaling: Mapping[str, Any]) -> float:
    def temperature(weight: float) -> float:
        return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0

    if scaling.get("attention_factor") is not None:
        return scaling["attention_factor"]
    if scaling.get("mscale") and scaling.get("mscale_all_dim"):
        return temperature(scaling["mscale"]) / temperature(scaling["mscale_all_dim"])
    return temperature(1.0)


VARIANTS: dict[str, Frequencies] = {
    "default": default_frequencies,
    "linear": linear_frequencies,
    "yarn": yarn_frequencies,
}


class RotaryEmbedding(nn.Module):
    """Turns queries and keys by their positions; one instance serves all layers that share ``parameters``.

    ``cos_sin`` [max_model_len, R] float32 is the table of :func:`openlathe.kernels.rotary.rotary`. Raises
    ``CheckpointError`` for a variant that is not served.
    """

    cos_sin: Tensor

    def __init__(
        self, context: BuildContext, head_dim: int, parameters: RopeParameters, *, interleaved: bool = False
    ) -> None:
        super().__init__()
        self.operators = context.operators
        self.interleaved = interleaved
        table = cos_sin_table(parameters, int(head_dim * parameters.partial), context.max_model_len)
        self.register_buffer("cos_sin", table.to(context.device), persistent=False)

    def forward(self, positions: Tensor, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """``positions`` [T] int64, ``q`` [T, heads, D], ``k`` [T, kv_heads, D] -> (q, k) of the same shapes."""
        return self.operators.rotary(positions, q, k, self.cos_sin, self.interleaved)


def cos_sin_table(parameters: RopeParameters, dim: int, length: int) -> Tensor:
    """[length, dim] float32: ``dim / 2`` cosines, then as many sines, of each position."""
    variant = VARIANTS.get(parameters.kind)
    if variant is None:
        raise CheckpointError(
            f"config.json asks for rope type {parameters.kind!r}; openlathe serves {', '.join(sorted(VARIANTS))}."
        )
    try:
        frequencies, factor = variant(parameters.theta, dim, parameters.scaling)
    except KeyError as error:
        raise CheckpointError(f"config.json has rope type {parameters.kind!r} without its {error}.") from None
    angles = torch.arange(length).float()[:, None] * frequencies
    return torch.cat((angles.cos() * factor, angles.sin() * factor), dim=-1)
