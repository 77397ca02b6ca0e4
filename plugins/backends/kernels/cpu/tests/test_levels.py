"""Every instruction set that this CPU has answers as float64 does, to the same tolerance as the best one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any

import pytest
import torch
from openlathe_plugin_cpu import attend, build, experts, facts, gates, linear, norms, rotary, tokens, write_kv

from openlathe.kernels import OPERATORS, Gate
from openlathe.kernels.attend import AttendPlan
from openlathe.kernels.attend import attend as reference
from openlathe.kernels.pages import layout_of, rows_of
from openlathe.spi import DeviceFacts, FullKV, KernelQuery, KVPages
from openlathe_sdk.harness.attention import poisoned
from openlathe_sdk.harness.draws import SHAPES, asked_of_each
from openlathe_sdk.harness.invariance import PARTS, threads
from openlathe_sdk.harness.operators import CASES, PACKED, Draw
from openlathe_sdk.harness.tolerance import assert_close, tolerance_of

pytestmark = pytest.mark.skipif(bool(build.why_missing()), reason=build.why_missing() or "compiled")

OPERATORS_HERE = {
    "rms_norm": norms.rms_norm,
    "add_rms_norm": norms.add_rms_norm,
    "silu_mul": gates.silu_mul,
    "gelu_mul": gates.gelu_mul,
    "rotary": rotary.rotary,
    "linear": linear.linear,
    "experts": experts.experts,
}
GATES = [OPERATORS["silu_mul"], OPERATORS["gelu_mul"]]
dtypes = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


def answer(function: Any, operator: str, given: Sequence[Any]) -> Any:
    """Of an operator, or of what it makes of its first arguments."""
    packed = PACKED.get(operator, 0)
    return function(*given[:packed])(*given[packed:]) if packed else function(*given)


@dtypes
@pytest.mark.parametrize("operator", OPERATORS_HERE)
def test_operators(level: build.Level, operator: str, dtype: str) -> None:
    for given in CASES[operator](Draw(getattr(torch, dtype), torch.device("cpu"))):
        wide = [x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x for x in given]
        exact = answer(OPERATORS[operator], operator, wide)
        got = answer(OPERATORS_HERE[operator], operator, given)
        for part, truth in zip(*((x if isinstance(x, tuple) else (x,)) for x in (got, exact)), strict=True):
            assert_close(part, truth, dtype, f"{operator} on {level.name}")


@dtypes
def test_draws(level: build.Level, dtype: str) -> None:
    for size in (3, 130, 3000):
        scores = 3 * Draw(getattr(torch, dtype), torch.device("cpu")).tensor(len(SHAPES), size)
        wish = asked_of_each(scores)
        got = tokens.draw(scores[torch.from_numpy(wish.rows)], wish.temperature, wish.filters, wish.numbers)
        assert got.tolist() == wish.tokens.tolist(), f"of {size} tokens on {level.name}"


@dtypes
def test_long_products(level: build.Level, dtype: str) -> None:
    """Odd numbers of inputs and outputs, and more rows than stay in the cache at once."""
    draw = Draw(getattr(torch, dtype), torch.device("cpu"))
    weight, x = draw.tensor(70, 5001) / 5001**0.5, draw.tensor(150, 5001)
    assert_close(linear.linear(weight, None)(x), x.double() @ weight.double().T, dtype, level.name)


@dtypes
@pytest.mark.parametrize("gate", [None, *GATES])
def test_rows_of_linear_layers_keep_apart(level: build.Level, dtype: str, gate: Gate | None) -> None:
    """Bit by bit, whatever the number of rows and of threads, with a residual that is added before rounding."""
    draw = Draw(getattr(torch, dtype), torch.device("cpu"))
    weight, bias, x = draw.tensor(140, 1501) / 1501**0.5, draw.tensor(140), draw.tensor(150, 1501)
    packed = linear.linear(weight, bias, gate)
    residual = draw.tensor(*packed(x).shape)
    whole = packed(x, residual)
    exact = OPERATORS["linear"](weight.double(), bias.double(), gate)(x.double()) + residual.double()
    assert_close(whole, exact, dtype, level.name)
    for count in (1, 3):
        with threads(count):
            for start, end in PARTS:
                assert torch.equal(packed(x[start:end], residual[start:end]), whole[start:end])


@dtypes
@pytest.mark.parametrize("gate", GATES)
def test_tokens_of_experts_keep_apart(level: build.Level, dtype: str, gate: Gate) -> None:
    """Bit by bit, whoever else goes to the same experts."""
    draw = Draw(getattr(torch, dtype), torch.device("cpu"))
    layer = experts.experts(draw.tensor(6, 80, 100) / 10, draw.tensor(6, 100, 40) / 6, gate)
    weights, chosen = draw.tensor(150, 6, dtype=torch.float32).softmax(-1).topk(3)
    x = draw.tensor(150, 100)
    whole = layer(x, chosen, weights)
    for count in (1, 3):
        with threads(count):
            for start, end in PARTS:
                part = layer(x[start:end], chosen[start:end], weights[start:end])
                assert torch.equal(part, whole[start:end])


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


@dtypes
@pytest.mark.parametrize("features", [{}, {"window": 90}, {"soft_cap": 2.0}], ids=str)
def test_attention_to_rounded(level: build.Level, dtype: str, features: dict) -> None:
    """By bytes where the instruction set has them, by floats elsewhere."""
    draw = Draw(getattr(torch, dtype), torch.device("cpu"))
    plan = attend_plan([700, 40, 131], [3, 40, 1], 16, "lanes")
    blocks = plan.block_table.numel()
    shapes = layout_of("lanes", FullKV(kv_heads=2, dim_k=48, dim_v=80), 16, torch.int8)
    pages = poisoned(shapes, blocks, torch.int8, draw.device)
    k, v, slots = draw.tensor(blocks * 16, 2, 48), draw.tensor(blocks * 16, 2, 80), torch.arange(blocks * 16)
    write_kv.write_kv(k, v, pages, slots, "lanes")
    wide = KVPages(*(rows.double() for rows in as_hnd(pages, plan)))
    q = draw.tensor(44, 6, 48)
    exact, _ = reference(q.double(), wide, replace(plan, layout="hnd"), scale=0.15, **features)
    got, _ = attend.attend(q, pages, plan, scale=0.15, **features)
    assert_close(got, exact, tolerance_of(dtype, rounded=True), f"attend on {level.name}")


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
    assert facts.refuse_attention(query) == ("it reads a cache of bfloat16 or int8, not of float32",)
