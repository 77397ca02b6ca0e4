"""The same work in different company: rows of operators, sequences of attention, bit by bit."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from openlathe.kernels import OPERATORS, Gate, Operators
from openlathe.kernels.draw import Filters
from openlathe.plugins.registry import Registry
from openlathe.plugins.resolve import resolve_target
from openlathe.plugins.select import Selector, Slot
from openlathe.spi import AttentionBatch, KernelQuery, KernelSpec, Query

from .attention import Heads
from .operators import Draw, cos_sin, gate
from .paging import Cached, Pool
from .under_test import facts_of

#: Rows of a step, enough for torch to share the work out over threads.
ROWS = 150
#: Parts of these rows that are computed as steps of their own.
PARTS = ((0, 2), (0, 3), (3, 8), (0, 17), (5, 38), (0, 64), (1, 66), (40, 150), (0, 150))
#: Numbers of threads; an odd one puts borders between threads where no row ends.
THREADS = (1, 3)
#: Tokens of a chunk, of no relation to any block.
CHUNK = 41

Call = Callable[[slice], tuple[Tensor, ...]]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def same(got: Tensor, expected: Tensor) -> bool:
    """To the last bit: what is not a number is the same as itself, and zeros have a sign."""
    return got.shape == expected.shape and torch.equal(_bits(got), _bits(expected))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(torch.uint8)


# -- operators that treat rows ------------------------------------------------------------------------------------


def calls(operator: str, function: Any, draw: Draw) -> Iterator[Call]:
    """The operator over :data:`ROWS` rows of several widths, as functions of which rows are in the step."""
    for make in _WIDTHS[operator]:
        yield make(function, draw)


def _rms_norm(size: int) -> Callable[[Any, Draw], Call]:
    def make(function: Any, draw: Draw) -> Call:
        x, weight = draw.tensor(ROWS, size), draw.tensor(size)
        return lambda rows: (function(x[rows], weight, 1e-6),)

    return make


def _head_norm(function: Any, draw: Draw) -> Call:
    x, weight = draw.view(ROWS, 3, 32), draw.tensor(32)
    return lambda rows: (function(x[rows], weight, 1e-6),)


def _add_rms_norm(size: int) -> Callable[[Any, Draw], Call]:
    def make(function: Any, draw: Draw) -> Call:
        x, residual, weight = draw.tensor(ROWS, size), draw.tensor(ROWS, size), draw.tensor(size)
        return lambda rows: function(x[rows].clone(), residual[rows], weight, 1e-6)

    return make


def _gated(size: int) -> Callable[[Any, Draw], Call]:
    def make(function: Any, draw: Draw) -> Call:
        x = draw.tensor(ROWS, 2 * size)
        return lambda rows: (function(x[rows]),)

    return make


def _gelu(size: int, tanh: bool) -> Callable[[Any, Draw], Call]:
    def make(function: Any, draw: Draw) -> Call:
        x = 3 * draw.tensor(ROWS, size)
        return lambda rows: (function(x[rows], tanh),)

    return make


def _rotary(heads: int, kv_heads: int, size: int, turned: int) -> Callable[[Any, Draw], Call]:
    def make(function: Any, draw: Draw) -> Call:
        table, positions = cos_sin(500, turned, draw.device), draw.integers(500, ROWS)
        q, k = draw.view(ROWS, heads, size), draw.view(ROWS, kv_heads, size)
        return lambda rows: function(positions[rows], q[rows], k[rows], table)

    return make


def _linear(inputs: int, outputs: int, bias: bool, gate: Gate | None = None) -> Callable[[Any, Draw], Call]:
    def make(function: Any, draw: Draw) -> Call:
        x = draw.tensor(ROWS, inputs)
        packed = function(draw.tensor(outputs, inputs), draw.tensor(outputs) if bias else None, gate)
        return lambda rows: (packed(x[rows]),)

    return make


def _int8_linear(inputs: int, outputs: int) -> Callable[[Any, Draw], Call]:
    def make(function: Any, draw: Draw) -> Call:
        x, weight = draw.tensor(ROWS, inputs), draw.integers(255, outputs * inputs).view(outputs, inputs)
        packed = function(weight.sub(127).to(torch.int8), draw.tensor(outputs, dtype=torch.float32), None)
        return lambda rows: (packed(x[rows]),)

    return make


def _int4_linear(inputs: int, outputs: int, group: int) -> Callable[[Any, Draw], Call]:
    def make(function: Any, draw: Draw) -> Call:
        x, weight = draw.tensor(ROWS, inputs), draw.integers(16, outputs * inputs).view(outputs, inputs)
        packed = function(weight.to(torch.uint8), draw.tensor(outputs, inputs // group).bfloat16(), None, None)
        return lambda rows: (packed(x[rows]),)

    return make


def _experts(count: int, top_k: int, hidden: int, inner: int, bias: bool) -> Callable[[Any, Draw], Call]:
    def make(function: Any, draw: Draw) -> Call:
        x = draw.tensor(ROWS, hidden)
        weights, chosen = draw.tensor(ROWS, count, dtype=torch.float32).softmax(-1).topk(top_k)
        biases = (draw.tensor(count, 2 * inner), draw.tensor(count, hidden)) if bias else (None, None)
        packed = function(draw.tensor(count, 2 * inner, hidden), draw.tensor(count, hidden, inner), gate, *biases)
        return lambda rows: (packed(x[rows], chosen[rows], weights[rows]),)

    return make


def _merge_states(heads: int, size: int) -> Callable[[Any, Draw], Call]:
    def make(function: Any, draw: Draw) -> Call:
        outs = [draw.tensor(ROWS, heads, size) for _ in range(2)]
        lses = [3 * draw.tensor(ROWS, heads, dtype=torch.float32) for _ in range(2)]
        return lambda rows: function(outs[0][rows], lses[0][rows], outs[1][rows], lses[1][rows])

    return make


def _head_linear(heads: int, inputs: int, outputs: int) -> Callable[[Any, Draw], Call]:
    def make(function: Any, draw: Draw) -> Call:
        x, weight = draw.tensor(ROWS, heads, inputs), draw.tensor(heads, outputs, inputs)
        return lambda rows: (function(x[rows], weight),)

    return make


def _draw_tokens(vocabulary: int) -> Callable[[Any, Draw], Call]:
    def make(function: Any, draw: Draw) -> Call:
        scores, chance = 2 * draw.tensor(ROWS, vocabulary), np.random.default_rng(0)
        temperature = chance.choice([0.5, 1.0, 1.5], ROWS).astype(np.float32)
        top_k, top_p = chance.choice([0, 1, 20], ROWS), chance.choice([1.0, 0.3, 0.95], ROWS)
        min_p, numbers = chance.choice([0.0, 0.05], ROWS), chance.random(ROWS)

        def call(rows: slice) -> tuple[Tensor, ...]:
            filters = Filters(top_k=top_k[rows], top_p=top_p[rows], min_p=min_p[rows])
            return (function(scores[rows], temperature[rows], filters, numbers[rows])[:, None],)

        return call

    return make


_WIDTHS: dict[str, tuple[Callable[[Any, Draw], Call], ...]] = {
    "rms_norm": (_rms_norm(64), _rms_norm(100), _rms_norm(1024), _head_norm),
    "add_rms_norm": (_add_rms_norm(64), _add_rms_norm(1000)),
    "silu_mul": (_gated(96), _gated(1000)),
    "gelu_mul": (_gated(96), _gated(1000)),
    "gelu": (_gelu(96, False), _gelu(1001, False), _gelu(96, True), _gelu(1001, True)),
    "rotary": (_rotary(4, 2, 32, 32), _rotary(5, 5, 80, 80), _rotary(16, 8, 128, 64)),
    "linear": (
        _linear(64, 96, False),
        _linear(100, 257, True),
        _linear(1024, 128, False),
        _linear(3072, 64, False),
        _linear(256, 96, True, gate),
    ),
    "int8_linear": (_int8_linear(100, 257), _int8_linear(1024, 64)),
    "int4_linear": (_int4_linear(96, 257, 32), _int4_linear(1024, 64, 128)),
    "experts": (_experts(8, 3, 100, 96, False), _experts(2, 1, 1024, 64, True)),
    "merge_states": (_merge_states(4, 64), _merge_states(3, 33)),
    "draw": (_draw_tokens(150), _draw_tokens(5000)),
    "head_linear": (_head_linear(4, 32, 24), _head_linear(16, 512, 128), _head_linear(3, 100, 257)),
}
ROWWISE = tuple(_WIDTHS)


# -- sequences ----------------------------------------------------------------------------------------------------

#: Steps: in each, which sequence grows by how many tokens.
Schedule = Sequence[Sequence[tuple[int, int]]]
#: What attends in one step: (batch, q, k, v) -> tensors whose rows are the step's tokens.
Attention = Callable[[AttentionBatch, Tensor, Tensor, Tensor], tuple[Tensor, ...]]


class Sequences:
    """Queries, keys and values of sequences of ``lengths`` tokens, to be computed under one schedule or another."""

    def __init__(self, draw: Draw, shape: Heads, lengths: Sequence[int]) -> None:
        self.device = draw.device
        self.lengths = lengths
        self.tokens = [
            (
                draw.tensor(length, shape.heads, shape.dim_k),
                draw.tensor(length, shape.kv_heads, shape.dim_k),
                draw.tensor(length, shape.kv_heads, shape.dim_v),
            )
            for length in lengths
        ]

    def play(self, attention: Attention, schedule: Schedule, pool: Pool) -> list[tuple[Tensor, ...]]:
        """What each sequence got, its tokens in order."""
        cached = [Cached() for _ in self.lengths]
        found: list[list[tuple[Tensor, ...]]] = [[] for _ in self.lengths]
        for step in schedule:
            starts = [cached[index].length for index, _ in step]
            batch = pool.step([(cached[index], count) for index, count in step])
            parts = [
                [tensor[start : start + count] for tensor in self.tokens[index]]
                for (index, count), start in zip(step, starts, strict=True)
            ]
            q, k, v = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
            answers = [answer.split([count for _, count in step]) for answer in attention(batch, q, k, v)]
            for (index, _), *own in zip(step, *answers, strict=True):
                found[index].append(tuple(own))
        return [tuple(torch.cat(part) for part in zip(*parts, strict=True)) for parts in found]

    def alone(self) -> Schedule:
        """Each sequence whole, in a step of its own."""
        return [[(index, length)] for index, length in enumerate(self.lengths)]

    def whole(self) -> dict[str, Schedule]:
        """All in one step."""
        return {"in one step": [list(enumerate(self.lengths))]}

    def others(self) -> dict[str, Schedule]:
        """All in one step; in chunks of one size; at random; prompts first and then token by token."""
        tails = [min(length - 1, 5) for length in self.lengths]
        decoding = [
            [(index, length - tail) for index, (length, tail) in enumerate(zip(self.lengths, tails, strict=True))]
        ]
        decoding += [[(index, 1) for index, tail in enumerate(tails) if tail > step] for step in range(max(tails))]
        chunks = [
            [(index, min(length - at, CHUNK)) for index, length in enumerate(self.lengths) if length > at]
            for at in range(0, max(self.lengths), CHUNK)
        ]
        return {**self.whole(), "in chunks": chunks, "at random": self._mixed(), "token by token": decoding}

    def _mixed(self) -> Schedule:
        choose = random.Random(5)
        left = dict(enumerate(self.lengths))
        steps = []
        while left:
            chosen = choose.sample(sorted(left), choose.randint(1, len(left)))
            step = [(index, min(left[index], choose.choice([1, 2, 7, 16, 33, 100, 300]))) for index in chosen]
            left = {index: rest - dict(step).get(index, 0) for index, rest in left.items()}
            left = {index: rest for index, rest in left.items() if rest}
            steps.append(step)
        return steps


# -- what a backend stands on -------------------------------------------------------------------------------------


def invariant_operators(registry: Registry, device: torch.device, dtype: str) -> Operators:
    """What core would choose under ``--batch-invariant``; skips where nothing that is installed would do."""
    return chosen_operators(registry, device, dtype, batch_invariant=True)


def chosen_operators(registry: Registry, device: torch.device, dtype: str, *, batch_invariant: bool) -> Operators:
    """What core would choose, see :func:`invariant_operators`."""
    return Operators(
        **{operator: _chosen(registry, operator, device, dtype, batch_invariant) for operator in OPERATORS}
    )


def _chosen(registry: Registry, operator: str, device: torch.device, dtype: str, batch_invariant: bool) -> Any:
    query: Query = KernelQuery(
        operator=operator, device=facts_of(device), dtype=dtype, kv_dtype=dtype, batch_invariant=batch_invariant
    )
    choice = Selector(registry, {}).automatic(
        Slot(
            name=f"kernel.{operator}",
            kind="kernel",
            query=query,
            flag="--kernels",
            candidates=lambda spec: isinstance(spec, KernelSpec) and spec.operator == operator,
        )
    )
    if choice is None:
        pytest.skip(f"no installed kernel for {operator} is free of the batch on {device.type}")
    return resolve_target(choice.kind, choice.name, choice.distribution, choice.version, choice.target)
