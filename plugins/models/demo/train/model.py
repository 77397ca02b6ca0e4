"""Qwen3 for training: the published architecture in plain torch, its parameters named as in a checkpoint.

Serving has its own implementation, in the qwen3 plugin; this one knows whole sequences and gradients, no cache. A row
of a batch may hold several texts that begin alike: a trunk, and branches that see it and nothing of each other. Rows
are padded on the right, so that no token sees padding.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .batches import IGNORED, Batch


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What config.json says of a model's size; the output head is tied to the embedding."""

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rope_theta: float = 10000.0
    norm_eps: float = 1e-6


class Norm(nn.Module):
    """Root mean square over the last dimension (Zhang and Sennrich, 2019)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        dtype = compute_dtype(x)
        scale = (x.float().square().mean(-1, keepdim=True) + self.eps).rsqrt()
        return (x * scale).to(dtype) * self.weight.to(dtype)


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        size, self.head_dim = shape.hidden_size, shape.head_dim
        self.q_proj = nn.Linear(size, shape.num_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(size, shape.num_kv_heads * self.head_dim, bias=False)
        self.v_proj = nn.Linear(size, shape.num_kv_heads * self.head_dim, bias=False)
        self.o_proj = nn.Linear(shape.num_heads * self.head_dim, size, bias=False)
        self.q_norm = Norm(self.head_dim, shape.norm_eps)
        self.k_norm = Norm(self.head_dim, shape.norm_eps)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], hidden: Tensor) -> Tensor:
        """``x`` [B, L, H] -> [B, L, H]; ``hidden`` as of ``hidden_pairs``."""
        q, k, v = (proj(x).unflatten(-1, (-1, self.head_dim)) for proj in (self.q_proj, self.k_proj, self.v_proj))
        q, k = rotate(self.q_norm(q), rotary), rotate(self.k_norm(k), rotary)
        q, k, v = (part.transpose(1, 2) for part in (q, k, v))
        mixed = attend(q, k, v, hidden)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))


def attend(q: Tensor, k: Tensor, v: Tensor, hidden: Tensor) -> Tensor:
    """Attention of ``q`` [B, heads, L, D] to ``k`` and ``v`` [B, key heads, L, D]; ``hidden`` is added to its scores.

    On a CPU as plain products: for texts this short they take a quarter of the fused operator's time, most of which
    is its backward pass. Heads that share keys are rows of one product.
    """
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=hidden[:, None], enable_gqa=True)
    batch, key_heads, length, size = k.shape
    groups = q.shape[1] // key_heads
    rows = q.reshape(-1, groups * length, size)
    k, v = (part.reshape(-1, length, size) for part in (k, v))
    scores = torch.bmm(rows, k.transpose(1, 2)).view(batch, key_heads * groups, length, length) * size**-0.5
    mixed = torch.bmm((scores + hidden[:, None]).softmax(-1).view(-1, groups * length, length), v)
    return mixed.view(q.shape)


def hidden_pairs(branches: Tensor, dtype: torch.dtype) -> Tensor:
    """Branches of tokens [B, L] -> [B, L, L]: minus infinity where a token must not see another, else zero.

    It sees those before it in the trunk, which is branch zero, and in its own branch.
    """
    length = branches.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool, device=branches.device).tril()
    theirs = branches[:, None, :]
    seen = earlier & ((theirs == 0) | (theirs == branches[:, :, None]))
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, -torch.inf)


class GatedMLP(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.up_proj = nn.Linear(shape.hidden_size, shape.intermediate_size, bias=False)
        self.down_proj = nn.Linear(shape.intermediate_size, shape.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape.hidden_size, shape.norm_eps)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape.hidden_size, shape.norm_eps)
        self.mlp = GatedMLP(shape)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], hidden: Tensor, chosen: Tensor | None = None) -> Tensor:
        """``x`` [B, L, H] -> the same, or [N, H] where only the ``chosen`` positions [B, L] matter to what follows."""
        x = x + self.self_attn(self.input_layernorm(x), rotary, hidden)
        if chosen is not None:
            x = x[chosen]
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    def __init__(self, shape: Shape, vocab_size: int) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_layers))
        self.norm = Norm(shape.hidden_size, shape.norm_eps)


class Qwen3(nn.Module):
    """``state_dict()`` has the names of a published checkpoint's tensors."""

    def __init__(self, shape: Shape, vocab_size: int) -> None:
        super().__init__()
        self.shape = shape
        self.model = Decoder(shape, vocab_size)
        self.apply(_initialise)
        for name, parameter in self.named_parameters():
            if name.endswith(("o_proj.weight", "down_proj.weight")):  # the more branches, the smaller each begins
                nn.init.normal_(parameter, std=0.02 / (2 * shape.num_layers) ** 0.5)

    def compile_layers(self) -> None:
        """Fuses what stands between the products: a seventh less time. The last layer's shapes depend on its mask."""
        for layer in list(self.model.layers)[:-1]:
            layer.compile(dynamic=True)

    @property
    def device(self) -> torch.device:
        return self.model.norm.weight.device

    def forward(self, batch: Batch, chosen: Tensor) -> Tensor:
        """A mask ``chosen`` [B, L] of N positions -> logits [N, V]; only these meet the head."""
        x = self.model.embed_tokens(batch.ids)
        rotary = rotary_table(batch.positions, self.shape, x)
        hidden = hidden_pairs(batch.branches, compute_dtype(x))
        *layers, last = self.model.layers
        for layer in layers:
            x = layer(x, rotary, hidden)
        return F.linear(self.model.norm(last(x, rotary, hidden, chosen)), self.model.embed_tokens.weight)

    def loss(self, batch: Batch) -> Tensor:
        """Cross entropy summed over the positions whose label is not ``IGNORED``; labels are shifted already."""
        chosen = batch.labels != IGNORED
        return F.cross_entropy(self(batch, chosen).float(), batch.labels[chosen], reduction="sum")


def compute_dtype(x: Tensor) -> torch.dtype:
    """What products around here are made in."""
    return torch.get_autocast_dtype(x.device.type) if torch.is_autocast_enabled(x.device.type) else x.dtype


def rotary_table(positions: Tensor, shape: Shape, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines [B, L, 1, D / 2] of rotary positions [B, L] (Su et al., 2021)."""
    exponents = torch.arange(0, shape.head_dim, 2, device=like.device) / shape.head_dim
    angles = positions[:, :, None] * shape.rope_theta**-exponents
    dtype = compute_dtype(like)
    return angles.cos()[:, :, None].to(dtype), angles.sin()[:, :, None].to(dtype)


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """``x`` [B, L, heads, D], its two halves turned against each other."""
    cos, sin = rotary
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
