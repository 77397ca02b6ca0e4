"""Arguments for every operator: random values in the shapes that models use, views of larger tensors included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from openlathe.kernels.gelu_mul import gelu_mul
from openlathe.kernels.silu_mul import silu_mul

Arguments = tuple[Any, ...]


class Draw:
    """Random tensors of one dtype on one device; equal for equal seeds."""

    def __init__(self, dtype: torch.dtype, device: torch.device, seed: int = 0) -> None:
        self.dtype = dtype
        self.device = device
        self._generator = torch.Generator().manual_seed(seed)

    def tensor(self, *shape: int, dtype: torch.dtype | None = None) -> Tensor:
        return torch.randn(shape, generator=self._generator).to(dtype or self.dtype).to(self.device)

    def integers(self, below: int, count: int) -> Tensor:
        return torch.randint(below, (count,), generator=self._generator).to(self.device)

    def view(self, tokens: int, heads: int, size: int) -> Tensor:
        """[tokens, heads, size] inside a wider row, as the parts of a fused projection are."""
        return self.tensor(tokens, heads + 3, size)[:, 1 : 1 + heads]


def embedding(draw: Draw) -> Iterator[Arguments]:
    for tokens, rows, size in ((1, 10, 64), (33, 500, 100)):
        yield draw.integers(rows, tokens), draw.tensor(rows, size)


def rms_norm(draw: Draw) -> Iterator[Arguments]:
    for tokens, size in ((1, 64), (7, 1024), (33, 100)):
        yield draw.tensor(tokens, size), draw.tensor(size), 1e-6
    yield draw.view(5, 4, 32), draw.tensor(32), 1e-6
    yield draw.tensor(3, 64) * 1e-4, draw.tensor(64), 1e-3
    yield draw.tensor(5, 64), draw.tensor(64, dtype=torch.float32), 1e-6


def add_rms_norm(draw: Draw) -> Iterator[Arguments]:
    for tokens, size in ((1, 64), (7, 1024), (33, 100)):
        yield draw.tensor(tokens, size), draw.tensor(tokens, size), draw.tensor(size), 1e-6
    yield draw.tensor(5, 64), draw.tensor(5, 64), draw.tensor(64, dtype=torch.float32), 1e-6


def gated(draw: Draw) -> Iterator[Arguments]:
    """Gates and values, for the operators of gated feed-forward layers."""
    for tokens, size in ((1, 64), (7, 1000), (33, 96)):
        yield (draw.tensor(tokens, 2 * size),)
    yield (30 * draw.tensor(4, 64),)


def gelu(draw: Draw) -> Iterator[Arguments]:
    """Both forms, far from zero too."""
    for tokens, size in ((1, 64), (7, 1000), (33, 97)):
        for tanh in (False, True):
            yield 3 * draw.tensor(tokens, size), tanh


def rotary(draw: Draw) -> Iterator[Arguments]:
    for tokens, heads, kv_heads, size, turned in ((1, 4, 2, 32, 32), (9, 6, 1, 64, 64), (17, 2, 2, 128, 64)):
        table = cos_sin(500, turned, draw.device)
        for interleaved in (False, True):
            positions = draw.integers(500, tokens)
            yield positions, draw.view(tokens, heads, size), draw.view(tokens, kv_heads, size), table, interleaved


def linear(draw: Draw) -> Iterator[Arguments]:
    """(weight, bias, gate, x); the operator itself is a factory that takes the first three."""
    for tokens, inputs, outputs in ((1, 64, 96), (7, 96, 64), (33, 128, 257), (3, 33, 20)):
        for bias in (None, draw.tensor(outputs)):
            for gates in (None, gate, silu_mul, gelu_mul)[: 1 if outputs % 2 else None]:
                yield draw.tensor(outputs, inputs) / inputs**0.5, bias, gates, draw.tensor(tokens, inputs)


def experts(draw: Draw) -> Iterator[Arguments]:
    """(gate_up, down, gate, their biases, x, chosen, weights); the operator is a factory that takes the first five.

    One token, few of them for many experts, so many that every expert has some, and odd sizes.
    """
    shapes = ((1, 8, 2, 64, 48), (7, 32, 4, 96, 40), (60, 4, 3, 64, 100), (9, 6, 2, 33, 35))
    for tokens, count, top_k, hidden, inner in shapes:
        matrices = draw.tensor(count, 2 * inner, hidden) / hidden**0.5, draw.tensor(count, hidden, inner) / inner**0.5
        for biases in ((None, None), (draw.tensor(count, 2 * inner), draw.tensor(count, hidden))):
            scores = draw.tensor(tokens, count, dtype=torch.float32).softmax(-1)
            weights, chosen = scores.topk(top_k)
            for gates in (gate, silu_mul, gelu_mul):
                yield *matrices, gates, *biases, draw.tensor(tokens, hidden), chosen, weights


def gate(x: Tensor) -> Tensor:
    """[N, 2 * I] -> [N, I], unlike what models have: a provider must call what it is given."""
    gates, values = x.chunk(2, dim=-1)
    return (gates + 0.5) * values.clamp(-2, 2)


def merge_states(draw: Draw) -> Iterator[Arguments]:
    for tokens, heads, size in ((1, 1, 16), (9, 4, 64)):
        out_a, out_b = draw.tensor(tokens, heads, size), draw.tensor(tokens, heads, size)
        lse_a, lse_b = (3 * draw.tensor(tokens, heads, dtype=torch.float32) for _ in range(2))
        yield out_a, lse_a, out_b, lse_b
        yield out_a, lse_a + 80, out_b, lse_b - 80
        nothing = torch.full_like(lse_b, -torch.inf)
        yield out_a, lse_a, torch.zeros_like(out_b), nothing
        yield torch.zeros_like(out_a), nothing, out_b, lse_b
        yield torch.zeros_like(out_a), nothing, torch.zeros_like(out_b), nothing


def head_linear(draw: Draw) -> Iterator[Arguments]:
    """The weight as it lies, and one that is part of another and lies the other way round."""
    for tokens, heads, inputs, outputs in ((1, 4, 32, 64), (7, 3, 96, 48), (33, 16, 64, 128)):
        x = draw.view(tokens, heads, inputs)
        yield x, draw.tensor(heads, outputs, inputs) / inputs**0.5
        yield x, (draw.tensor(heads, inputs + 16, outputs) / inputs**0.5)[:, :inputs].transpose(1, 2)


def cos_sin(positions: int, size: int, device: torch.device, base: float = 10_000.0) -> Tensor:
    """[positions, size] float32: size / 2 cosines, then size / 2 sines."""
    frequencies = base ** -(torch.arange(0, size, 2, dtype=torch.float64) / size)
    angles = torch.outer(torch.arange(positions, dtype=torch.float64), frequencies)
    return torch.cat([angles.cos(), angles.sin()], dim=-1).float().to(device)


def _rows(draw: Draw, tokens: int, inputs: int) -> Tensor:
    """[tokens, inputs] inside wider rows: a great value in some, of which one is all zeros."""
    x = draw.tensor(tokens, inputs + 6)[:, 3 : inputs + 3]
    x[::3, inputs // 2] *= 100
    x[1:2] = 0
    return x


def int8_linear(draw: Draw) -> Iterator[tuple[tuple[Tensor | None, ...], Tensor]]:
    """(weight, scales, bias), and x; odd sizes, and the greatest weights there are."""
    for tokens, inputs, outputs in ((1, 64, 96), (7, 99, 64), (33, 128, 257), (14, 2100, 33)):
        weight = draw.integers(255, outputs * inputs).view(outputs, inputs).sub(127).to(torch.int8)
        weight[0] = 127
        scales = draw.tensor(outputs, dtype=torch.float32).abs() / 100
        for bias in (None, draw.tensor(outputs)):
            yield (weight, scales, bias), _rows(draw, tokens, inputs)


def int4_linear(draw: Draw) -> Iterator[tuple[tuple[Tensor | None, ...], Tensor]]:
    """(weight, scales, zeros, bias), and x; with zero points and without, scales of both types."""
    sizes = ((1, 64, 96, 32), (7, 192, 64, 64), (33, 256, 257, 128), (14, 1024, 33, 64))
    for (tokens, inputs, outputs, group), dtype in zip(sizes, 2 * (torch.float16, torch.bfloat16), strict=True):
        weight = draw.integers(16, outputs * inputs).view(outputs, inputs).to(torch.uint8)
        scales = (draw.tensor(outputs, inputs // group, dtype=torch.float32) / 100).to(dtype)
        zeros = draw.integers(17, scales.numel()).view(scales.shape).to(torch.uint8)
        for points, bias in ((None, None), (zeros, draw.tensor(outputs))):
            yield (weight, scales, points, bias), _rows(draw, tokens, inputs)


#: Operators on rounded weights: what each packs, and what it then multiplies.
ROUNDED: dict[str, Callable[[Draw], Iterator[tuple[tuple[Tensor | None, ...], Tensor]]]] = {
    "int8_linear": int8_linear,
    "int4_linear": int4_linear,
}
#: Operators that are factories, with how many of the arguments they take; what they make takes the others.
PACKED = {"linear": 3, "experts": 5}
#: Operators whose answer is a function of their arguments.
CASES: dict[str, Callable[[Draw], Iterator[Arguments]]] = {
    "embedding": embedding,
    "rms_norm": rms_norm,
    "add_rms_norm": add_rms_norm,
    "silu_mul": gated,
    "gelu_mul": gated,
    "gelu": gelu,
    "rotary": rotary,
    "linear": linear,
    "experts": experts,
    "merge_states": merge_states,
    "head_linear": head_linear,
}
