"""How far a result in some dtype may lie from the exact one, and the comparison itself."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Tolerance(NamedTuple):
    """Allowed is ``absolute + relative * |expected|``."""

    absolute: float
    relative: float


#: A few units in the last place of values around one, for sums of up to some hundred terms accumulated in float32.
TOLERANCES: dict[str, Tolerance] = {
    "float32": Tolerance(2e-5, 2e-5),
    "float16": Tolerance(4e-3, 4e-3),
    "bfloat16": Tolerance(2e-2, 2e-2),
}


def tolerance_of(dtype: str, *, rounded: bool) -> str:
    """Whose tolerance holds for attention in ``dtype``: keys and values ``rounded`` to int8 are multiplied by whole
    numbers of two bytes, which are as exact as float16."""
    return "float16" if rounded and dtype == "float32" else dtype


def assert_close(got: Tensor, expected: Tensor, dtype: str, what: str) -> None:
    """Equal shapes, and values within the tolerance of ``dtype``; NaN is never within it, infinities must be equal."""
    assert got.shape == expected.shape, f"{what} has the shape {list(got.shape)} instead of {list(expected.shape)}"
    absolute, relative = TOLERANCES[dtype]
    got, expected = got.double(), expected.double()
    wrong = ~torch.isclose(got, expected, atol=absolute, rtol=relative)
    if wrong.any():
        worst = (got - expected).abs().nan_to_num(torch.inf)[wrong].max()
        first = tuple(int(i) for i in wrong.nonzero()[0])
        raise AssertionError(
            f"{what}: {int(wrong.sum())} of {wrong.numel()} values are wrong, by up to {worst:.3g}; "
            f"at {first} is {got[first]:.6g} instead of {expected[first]:.6g}"
        )
