"""Every instruction set that this CPU has answers as float64 does, to the same tolerance as the best one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate

import pytest
import torch
from openlathe_plugin_cpu import attend, build, facts, gates, linear, loading, norms, rotary

from openlathe.kernels import OPERATORS
from openlathe.kernels.attend import AttendPlan
from openlathe.kernels.attend import attend as reference
from openlathe.kernels.pages import layout_of, rows_of
from openlathe.spi import DeviceFacts, FullKV, KernelQuery, KVPages
from openlathe_sdk.harness.operators import CASES, Draw
from openlathe_sdk.harness.tolerance import assert_close

pytestmark = pytest.mark.skipif(bool(build.why_missing()), reason=build.why_missing() or "compiled")

OPERATORS_HERE = {
    "rms_norm": norms.rms_norm,
    "add_rms_norm": norms.add_rms_norm,
    "silu_mul": gates.silu_mul,
    "gelu_mul": gates.gelu_mul,
    "rotary": rotary.rotary,
    "linear": lambda weight, bias, gate, x: linear.linear(weight, bias, gate)(x),
}
dtypes = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


@pytest.fixture(params=build.levels(), ids=lambda level: level.name)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[build.Level]:
    if not request.param.needs <= facts._features():
        pytest.skip(f"this CPU has no {request.param.name}")
    monkeypatch.setattr(loading, "best_level", lambda: request.param)
    loading.native.cache_clear()
    assert loading.native().path.name.startswith(request.param.name)
    yield request.param
    loading.native.cache_clear()


@dtypes
@pytest.mark.parametrize("operator", OPERATORS_HERE)
def test_operators(level: build.Level, operator: str, dtype: str) -> None:
    exact_operator = OPERATORS[operator]
    if operator == "linear":
        exact_operator = lambda weight, bias, gate, x: OPERATORS["linear"](weight, bias, gate)(x)  # noqa: E731
    for given in CASES[operator](Draw(getattr(torch, dtype), torch.device("cpu"))):
        wide = [x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in given]
        exact = exact_operator(*wide)
        got = OPERATORS_HERE[operator](*given)
        for part, truth in zip(*((x if isinstance(x, tuple) else (x,)) for x in (got, exact)), strict=True):
            assert_close(part, truth, dtype, f"{operator} on {level.name}")


@dtypes
def test_long_products(level: build.Level, dtype: str) -> None:
    """Odd numbers of inputs and outputs, and more rows than stay in the cache at once."""
    draw = Draw(getattr(torch, dtype), torch.device("cpu"))
    weight, x = draw.tensor(70, 5001) / 5001**0.5, draw.tensor(150, 5001)
    assert_close(linear.linear(weight, None)(x), x.double() @ weight.double().T, dtype, level.name)


@dtypes
@pytest.mark.parametrize("threads", [1, 8])
@pytest.mark.parametrize("layout, block_size, dims", [("hnd", 12, (40, 24)), ("lanes", 48, (48, 80))])
@pytest.mark.parametrize("features", [{}, {"window": 90}, {"soft_cap": 2.0}, {"sinks": torch.ones(6)}], ids=str)
def test_attention(
    level: build.Level,
    dtype: str,
    threads: int,
    layout: str,
    block_size: int,
    dims: tuple[int, int],
    features: dict,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Several parts of keys, shared out over threads or not; pages of a size that divides no block."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    draw = Draw(getattr(torch, dtype), torch.device("cpu"))
    plan = attend_plan([700, 40, 131], [3, 40, 1], block_size, layout)
    kv = FullKV(kv_heads=2, dim_k=dims[0], dim_v=dims[1])
    shapes = layout_of(layout, kv, block_size, draw.dtype)
    pages = KVPages(*(draw.tensor(plan.block_table.numel(), *shape) for shape in (shapes.k_shape, shapes.v_shape)))
    q = draw.tensor(44, 6, dims[0])
    wide = KVPages(*(rows.double() for rows in as_hnd(pages, plan)))
    exact = reference(q.double(), wide, replace(plan, layout="hnd"), scale=0.15, return_lse=True, **features)
    got = attend.attend(q, pages, plan, scale=0.15, return_lse=True, **features)
    for part, truth in zip(got, exact, strict=True):
        assert_close(part, truth, dtype, f"attend on {level.name}")


def attend_plan(lengths: list[int], queries: list[int], block_size: int, layout: str) -> AttendPlan:
    starts = torch.tensor([0, *accumulate(queries)], dtype=torch.int32)
    blocks = -(-max(lengths) // block_size)
    table = torch.randperm(len(lengths) * blocks, generator=torch.Generator().manual_seed(0))
    return AttendPlan(
        query_start=starts.numpy(),
        seq_lens_bound=torch.tensor(lengths, dtype=torch.int32).numpy(),
        query_start_device=starts,
        seq_lens=torch.tensor(lengths, dtype=torch.int32),
        block_table=table.view(len(lengths), blocks).int(),
        block_size=block_size,
        layout=layout,
    )


def as_hnd(pages: KVPages, plan: AttendPlan) -> Iterator[torch.Tensor]:
    blocks = torch.arange(plan.block_table.numel())
    for rows in rows_of(pages, blocks, plan.layout):
        yield rows.view(len(blocks), plan.block_size, *rows.shape[1:]).transpose(1, 2)


def test_a_cache_of_another_dtype_is_refused() -> None:
    query = KernelQuery(operator="attend", device=DeviceFacts(), dtype="bfloat16", kv_dtype="float32")
    assert facts.refuse_attention(query) == ("it reads a cache of bfloat16 alone, not of float32",)
