"""Sums of bytes are exact on every instruction set: all that the references say, to the last bit."""

from __future__ import annotations

import pytest
import torch
from openlathe_plugin_cpu import build, int4_linear, int8_linear, memory

from openlathe.kernels import OPERATORS
from openlathe_sdk.harness.operators import Draw

pytestmark = pytest.mark.skipif(bool(build.why_missing()), reason=build.why_missing() or "compiled")

dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
threads = pytest.mark.parametrize("threads", [1, 3])
#: One row, fewer and more than a tile, and tiles of several sizes.
ROWS = (1, 3, 12, 29)


def inputs(draw: Draw, rows: int, size: int) -> torch.Tensor:
    """A view inside wider rows, with a great value in some, a row of zeros, and one of values that hardly are any."""
    x = draw.tensor(rows, size + 5)[:, 2 : size + 2]
    x[::3, size // 2] *= 300
    x[1:2], x[2:3] = 0, x[2:3] * 1e-30
    return x


@dtypes
@threads
@pytest.mark.parametrize("size, outputs", [(64, 96), (1027, 33), (3100, 70)])
def test_int8(
    level: build.Level, dtype: torch.dtype, threads: int, size: int, outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inputs that fill no step, outputs that fill no panel; the greatest weights and inputs there are."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    draw = Draw(dtype, torch.device("cpu"))
    weight = draw.integers(255, outputs * size).view(outputs, size).sub(127).to(torch.int8)
    weight[0], weight[1] = 127, -127
    scales, bias = draw.tensor(outputs, dtype=torch.float32).abs() / 100, draw.tensor(outputs)
    for added in (None, bias):
        exact = OPERATORS["int8_linear"](weight, scales, added)
        packed = int8_linear.NativeInt8Linear(weight, scales, added)
        kept = int8_linear.NativeInt8Linear.restored(*packed.stored())
        for rows in ROWS:
            x = inputs(draw, rows, size)
            x[0] = 1
            assert torch.equal(kept(x), packed(x))
            assert torch.equal(packed(x), exact(x)), f"{rows} rows on {level.name}"


@dtypes
@threads
@pytest.mark.parametrize("group, scale_dtype", [(32, torch.float16), (64, torch.bfloat16), (128, torch.float16)])
def test_int4(
    level: build.Level,
    dtype: torch.dtype,
    threads: int,
    group: int,
    scale_dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With zero points and without; scales below the least normal number of their type."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    draw = Draw(dtype, torch.device("cpu"))
    outputs, size = 70, 3 * 128
    weight = draw.integers(16, outputs * size).view(outputs, size).to(torch.uint8)
    weight[0], weight[1] = 15, 0
    scales = (draw.tensor(outputs, size // group, dtype=torch.float32) / 100).to(scale_dtype)
    scales[3] *= 1e-4
    zeros = draw.integers(17, scales.numel()).view(scales.shape).to(torch.uint8)
    for points, added in ((None, None), (zeros, draw.tensor(outputs))):
        exact = OPERATORS["int4_linear"](weight, scales, points, added)
        packed = int4_linear.NativeInt4Linear(weight, scales, points, added)
        kept = int4_linear.NativeInt4Linear.restored(*packed.stored())
        for rows in ROWS:
            x = inputs(draw, rows, size)
            assert torch.equal(kept(x), packed(x))
            assert torch.equal(packed(x), exact(x)), f"{rows} rows on {level.name}"


def test_a_row_that_is_no_number_stays_alone() -> None:
    draw = Draw(torch.float32, torch.device("cpu"))
    weight = draw.integers(255, 64 * 64).view(64, 64).sub(127).to(torch.int8)
    packed = int8_linear.int8_linear(weight, torch.ones(64))
    x = draw.tensor(3, 64)
    clean = packed(x)
    x[1, 5] = torch.nan
    assert packed(x)[1].isnan().all()
    assert torch.equal(packed(x)[::2], clean[::2])


@pytest.mark.parametrize("make", ["int8", "int4"])
def test_what_is_not_taken_is_told(make: str) -> None:
    if make == "int8":
        packed = int8_linear.int8_linear(torch.zeros(8, 64, dtype=torch.int8), torch.ones(8))
    else:
        packed = int4_linear.int4_linear(torch.zeros(8, 64, dtype=torch.uint8), torch.ones(8, 2).half())
    with pytest.raises(ValueError, match="64 inputs was given 60"):
        packed(torch.zeros(1, 60))
    with pytest.raises(TypeError, match="float16"):
        packed(torch.zeros(1, 64).half())


def test_weights_lie_together_and_go_together() -> None:
    arena = memory._Arena()
    first, second = arena.empty(100), arena.empty(10)
    assert second.data_ptr() - first.data_ptr() == 128
    piece = arena._piece
    del first
    assert piece is not None
    assert piece() is not None
    del second
    assert piece() is None
    assert len(arena.empty(memory.PIECE + 1)) == memory.PIECE + 1
