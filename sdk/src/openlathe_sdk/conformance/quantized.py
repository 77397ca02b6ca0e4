"""Rules for linear layers on rounded weights: their sums are whole numbers, so that nothing but the reference's answer
is right, to the last bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from openlathe.kernels import OPERATORS
from openlathe.plugins.resolve import resolve
from openlathe.spi import KernelQuery, KernelSpec, Provider

from ..harness.operators import ROUNDED, Draw
from ..harness.under_test import device_of, facts_of, require, skip_if_refused
from . import only

ONLY = {"operator": tuple(ROUNDED)}

dtypes = pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])


@only(operator=tuple(ROUNDED))
@dtypes
def test_products_are_exact(provider: Provider, dtype: str) -> None:
    """Every bit is the reference's: few rows and many, views, great inputs among small ones, rows of zeros."""
    spec, draw = _draw(provider, dtype)
    for number, (given, x) in enumerate(ROUNDED[spec.operator](draw)):
        exact = OPERATORS[spec.operator](*_cloned(given))(x)
        got = resolve(provider)(*_cloned(given))(x)
        assert got.dtype == x.dtype
        assert got.shape == exact.shape
        assert torch.equal(got, exact), f"case {number}: {int((got != exact).sum())} of {exact.numel()} values differ"


@only(operator=tuple(ROUNDED))
@dtypes
def test_inputs_stay_as_they_were(provider: Provider, dtype: str) -> None:
    """What is multiplied belongs to the caller."""
    spec, draw = _draw(provider, dtype)
    for given, x in ROUNDED[spec.operator](draw):
        before = x.clone()
        resolve(provider)(*_cloned(given))(x)
        assert torch.equal(x, before)


@only(operator=tuple(ROUNDED))
@dtypes
def test_rounded_weights_say_what_they_keep(provider: Provider, dtype: str) -> None:
    """``nbytes`` counts at least the bits of the weight and at most a byte an element with scales and zero points."""
    spec, draw = _draw(provider, dtype)
    bits = {"int8_linear": 8, "int4_linear": 4}[spec.operator]
    for given, _ in ROUNDED[spec.operator](draw):
        weight = given[0]
        assert weight is not None
        nbytes = resolve(provider)(*_cloned(given)).nbytes
        panels = -(-weight.shape[0] // 32) * 32 * weight.shape[1]
        most = panels * 2 + sum(2 * part.nbytes for part in given[1:] if part is not None) + 1024
        assert weight.numel() * bits // 8 <= nbytes <= most


def _draw(provider: Provider, dtype: str) -> tuple[KernelSpec, Draw]:
    spec = provider.spec
    assert isinstance(spec, KernelSpec)
    require(spec.dtypes, dtype, "the dtype")
    device = device_of(spec)
    skip_if_refused(spec, KernelQuery(operator=spec.operator, device=facts_of(device), dtype=dtype, kv_dtype=dtype))
    return spec, Draw(getattr(torch, dtype), device)


def _cloned(given: tuple[Tensor | None, ...]) -> list[Any]:
    return [None if part is None else part.clone() for part in given]
