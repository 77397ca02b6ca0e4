"""Rules for operators around whole steps: choosing tokens, and running a captured step again."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from openlathe.kernels import OPERATORS, Operators
from openlathe.plugins.assemble import assemble
from openlathe.plugins.resolve import resolve
from openlathe.spi import KernelQuery, KernelSpec, Provider

from ..harness.draws import SHAPES, asked, asked_of_each
from ..harness.invariance import chosen_operators
from ..harness.operators import Draw
from ..harness.under_test import device_of, facts_of, require, skip_if_refused
from . import only

ONLY = {"operator": ("capture", "greedy", "draw")}
VOCABULARY, HIDDEN = 40, 64

dtypes = pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])


@only(operator="greedy")
@dtypes
def test_the_first_of_the_best(provider: Provider, dtype: str) -> None:
    """Over odd sizes, in rows that lie apart, below zero, and where several are equally good."""
    draw = _draw(provider, dtype)
    for rows, size in ((1, 151), (3, 1000), (40, 17), (2, 1)):
        for scores in (draw.tensor(rows, size), draw.tensor(rows, size + 3)[:, 1:-2], -draw.tensor(rows, size).abs()):
            coarse = (scores * 2).round() / 2
            for given in (scores, coarse, torch.full_like(scores, -torch.inf)):
                got = resolve(provider)(given)
                best = given == given.amax(-1, keepdim=True)
                assert got.dtype == torch.int64
                assert got.tolist() == [row.tolist().index(True) for row in best]


@only(operator="draw")
@dtypes
def test_every_number_finds_its_token(provider: Provider, dtype: str) -> None:
    """The tokens that are left share the numbers from 0 to 1 in the order of the vocabulary.

    Whatever narrows the choice, with different rows that lie apart and ask for different things; also in float32,
    which is what processors and grammars make of scores. Scores stay as they were.
    """
    draw = _draw(provider, dtype)
    for size, kept in product((17, 151, 5000), (draw.dtype, torch.float32)):
        wide = 3 * draw.tensor(len(SHAPES), size + 3)
        wish = asked_of_each(wide[:, 1:-2])
        given = wide.to(kept)[torch.from_numpy(wish.rows).to(draw.device)][:, 1:-2]
        before = given.clone()
        got = resolve(provider)(given, wish.temperature, wish.filters, wish.numbers)
        assert got.dtype == torch.int64
        assert got.tolist() == wish.tokens.tolist()
        assert torch.equal(given, before)


@only(operator="draw")
@dtypes
def test_a_masked_token_is_never_drawn(provider: Provider, dtype: str) -> None:
    """Not by the smallest of all numbers either, nor by the largest, where it is the first or the last."""
    draw = _draw(provider, dtype)
    scores = torch.full((1, 400), -torch.inf, dtype=draw.dtype, device=draw.device)
    scores[0, [130, 390]] = 0
    for shape in SHAPES[:4]:
        wish = asked(scores[0], shape)
        for number, token in ((0.0, 130), (np.nextafter(1.0, 0.0), 390)):
            numbers = np.full(len(wish.tokens), number)
            rows = scores.expand(len(wish.tokens), -1)
            got = resolve(provider)(rows, wish.temperature, wish.filters, numbers)
            assert got.tolist() == [token] * len(wish.tokens)


@only(operator="draw")
@dtypes
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_no_distribution_still_gives_a_token(provider: Provider, dtype: str, value: float) -> None:
    """A broken row must not end the process, nor change what stands beside it."""
    draw = _draw(provider, dtype)
    scores = draw.tensor(len(SHAPES), 151)
    wish = asked_of_each(scores)
    broken = torch.from_numpy(wish.rows % 2 == 1)
    given = scores[torch.from_numpy(wish.rows).to(draw.device)]
    given[broken.to(draw.device)] = value
    got = resolve(provider)(given, wish.temperature, wish.filters, wish.numbers).cpu()
    assert ((got >= 0) & (got < 151)).all()
    assert torch.equal(got[~broken], torch.from_numpy(wish.tokens)[~broken])


@only(operator="capture")
@pytest.mark.parametrize("between", ["operators alone", "torch between them"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_captured_step_runs_again(provider: Provider, dtype: str, between: str) -> None:
    """On what its inputs hold by then, also when others are captured and replayed in between; or it says why not."""
    draw = _draw(provider, dtype)
    steps = [_Step(draw, size, dtype, with_torch=between != "operators alone") for size in (1, 3, 2)]
    replays = []
    for step in steps:
        captured = resolve(provider)(step)
        assert torch.equal(captured.output, step())
        if captured.replay is None:
            assert captured.obstacle, "neither can it be replayed nor does it say why"
            return
        replays.append(captured.replay)
    for _ in range(3):
        for step, replay in zip(steps, replays, strict=True):
            step.change()
            assert torch.equal(replay(), step())


@only(operator="capture")
def test_a_step_that_fails_is_no_capture(provider: Provider) -> None:
    """What a step raises is passed on, and the next step is captured as if nothing had happened."""
    draw = _draw(provider, "float32")
    step = _Step(draw, 2, "float32", with_torch=False)

    def fails() -> Tensor:
        step()
        raise LookupError("on purpose")

    with pytest.raises(LookupError, match="on purpose"):
        resolve(provider)(fails)
    assert torch.equal(resolve(provider)(step).output, step())


class _Step:
    """An embedding, a norm, a linear layer, on the operators that core would choose for the device."""

    def __init__(self, draw: Draw, size: int, dtype: str, *, with_torch: bool) -> None:
        self._draw, self._size, self._with_torch = draw, size, with_torch
        self._operators: Operators = chosen_operators(assemble(), draw.device, dtype, batch_invariant=False)
        self._table, self._norm = draw.tensor(VOCABULARY, HIDDEN), draw.tensor(HIDDEN)
        self._linear: Callable[[Tensor], Tensor] = self._operators.linear(draw.tensor(96, HIDDEN), None)
        self._ids = draw.integers(VOCABULARY, size)

    def change(self) -> None:
        self._ids.copy_(self._draw.integers(VOCABULARY, self._size))

    @torch.inference_mode()
    def __call__(self) -> Tensor:
        x = self._operators.embedding(self._ids, self._table)
        x = x + 1 if self._with_torch else x
        return self._linear(self._operators.rms_norm(x, self._norm, 1e-6))


def _draw(provider: Provider, dtype: str) -> Draw:
    spec = provider.spec
    assert isinstance(spec, KernelSpec)
    assert spec.operator in OPERATORS
    require(spec.dtypes, dtype, "the dtype")
    device = device_of(spec)
    query = KernelQuery(operator=spec.operator, device=facts_of(device), dtype=dtype, kv_dtype=dtype)
    skip_if_refused(spec, query)
    return Draw(getattr(torch, dtype), device)
