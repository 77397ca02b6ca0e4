"""Rules for providers of operators: the reference of :mod:`openlathe.kernels`, in float64, is the definition."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from openlathe.kernels import OPERATORS
from openlathe.kernels.attend import AttendPlan
from openlathe.kernels.pages import LAYOUTS, PLAIN_LAYOUTS, layout_of
from openlathe.plugins.resolve import resolve
from openlathe.spi import AttentionBatch, FullKV, KernelQuery, KernelSpec, KVPages, Provider

from ..harness.attention import Heads, Truth, TruthOfRounded, poisoned
from ..harness.latent_attention import KeysAsValues
from ..harness.operators import CASES, PACKED, Draw
from ..harness.paging import Cached, Pool
from ..harness.tolerance import assert_close, tolerance_of
from ..harness.under_test import device_of, facts_of, require, skip_if_refused
from . import only

NUM_PAGES = 32
BLOCK_SIZE = 16

dtypes = pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
layouts = pytest.mark.parametrize("layout", LAYOUTS)


# -- operators that answer ----------------------------------------------------------------------------------------


@only(operator=tuple(CASES))
@dtypes
def test_it_equals_the_reference(provider: Provider, dtype: str) -> None:
    """Within the tolerance of the dtype, over shapes and views that models use, answering in the dtype it was given."""
    spec = _spec(provider)
    for number, arguments in enumerate(CASES[spec.operator](_draw(spec, dtype))):
        got = _answer(spec.operator, resolve(provider), *_cloned(arguments))
        exact = _answer(spec.operator, OPERATORS[spec.operator], *_doubled(arguments))
        for place, (part, truth, wanted) in enumerate(zip(got, exact, _dtypes(spec.operator, dtype), strict=True)):
            assert part.dtype == wanted, f"answer {place} is in {part.dtype} instead of {wanted}"
            assert_close(part, truth, dtype, f"{spec.operator}, case {number}, answer {place}")


@only(operator=tuple(name for name in CASES if name != "add_rms_norm"))
@dtypes
def test_its_arguments_stay_as_they_were(provider: Provider, dtype: str) -> None:
    """Only ``add_rms_norm`` may write into what it is given; a caller uses everything else again."""
    spec = _spec(provider)
    for arguments in CASES[spec.operator](_draw(spec, dtype)):
        given = _cloned(arguments)
        _answer(spec.operator, resolve(provider), *given)
        for index, (before, after) in enumerate(zip(arguments, given, strict=True)):
            if isinstance(before, Tensor) and index >= PACKED.get(spec.operator, 0):
                assert torch.equal(before, after), f"argument {index} of {spec.operator} was changed"


@only(operator="linear")
@dtypes
def test_a_packed_linear_says_what_it_keeps(provider: Provider, dtype: str) -> None:
    """``nbytes`` counts at least the weight and at most twice that; ``weight`` is the original or None."""
    spec = _spec(provider)
    weight = _draw(spec, dtype).tensor(128, 256)
    packed = resolve(provider)(weight, None)
    assert weight.nbytes <= packed.nbytes <= 2 * weight.nbytes
    assert packed.weight is None or packed.weight.data_ptr() == weight.data_ptr()


@only(operator="linear")
def test_a_router_is_multiplied_in_float32(provider: Provider) -> None:
    """Whatever other dtypes a provider is chosen for, a layer may hand it a weight in float32."""
    spec = _spec(provider)
    device = device_of(spec)
    query = KernelQuery(operator=spec.operator, device=facts_of(device), dtype="bfloat16", kv_dtype="bfloat16")
    skip_if_refused(spec, query)
    for weight, bias, gate, x in CASES["linear"](Draw(torch.float32, device)):
        if gate is not None:
            continue
        got = resolve(provider)(weight.clone(), bias)(x)
        assert_close(got, x.double() @ weight.double().T + (0 if bias is None else bias.double()), "float32", "router")


@only(operator="experts")
@dtypes
def test_packed_experts_say_what_they_keep(provider: Provider, dtype: str) -> None:
    """``nbytes`` counts at least the weights and at most twice that."""
    draw = _draw(_spec(provider), dtype)
    gate_up, down = draw.tensor(4, 128, 64), draw.tensor(4, 64, 64)
    packed = resolve(provider)(gate_up, down, OPERATORS["silu_mul"])
    assert gate_up.nbytes + down.nbytes <= packed.nbytes <= 2 * (gate_up.nbytes + down.nbytes)


@only(operator="experts")
@dtypes
def test_experts_nobody_chose_are_not_read(provider: Provider, dtype: str) -> None:
    """What a token did not choose leaves no trace in it, though it be no number."""
    draw = _draw(_spec(provider), dtype)
    gate_up, down = draw.tensor(6, 128, 64), draw.tensor(6, 64, 64)
    gate_up[::2], down[::2] = torch.nan, torch.nan
    chosen = torch.tensor([[1, 5], [3, 1], [5, 3]], device=draw.device)
    weights = torch.full((3, 2), 0.5, device=draw.device)
    out = resolve(provider)(gate_up, down, OPERATORS["silu_mul"])(draw.tensor(3, 64), chosen, weights)
    assert out.isfinite().all()


# -- operators over pages -----------------------------------------------------------------------------------------


@only(operator="write_kv")
@dtypes
@layouts
def test_write_kv(provider: Provider, dtype: str, layout: str) -> None:
    """Each token's key and value land in its slot, bit by bit, and nothing else is touched."""
    _require_layout(provider, layout)
    spec = _spec(provider)
    draw = _draw(spec, dtype)
    got, exact = (_pages(draw, layout, kv_heads=2, dim_k=32, dim_v=48) for _ in range(2))
    slots = torch.randperm(NUM_PAGES * BLOCK_SIZE, generator=torch.Generator().manual_seed(1))[:21].to(draw.device)
    k, v = draw.view(21, 2, 32), draw.view(21, 2, 48)
    resolve(provider)(k, v, got, slots, layout)
    OPERATORS["write_kv"](k, v, exact, slots, layout)
    for mine, truth in zip(got, exact, strict=True):
        assert torch.equal(mine.view(torch.uint8), truth.view(torch.uint8))


@only(operator="write_kv")
@dtypes
@layouts
def test_write_kv_rounded(provider: Provider, dtype: str, layout: str) -> None:
    """To int8, a scale a row behind it, bit by bit; a row of zeros has the scale zero."""
    _require_layout(provider, layout)
    draw = _draw(_spec(provider), dtype, "int8")
    got, exact = (_pages(draw, layout, kv_heads=2, dim_k=32, dim_v=48, dtype=torch.int8) for _ in range(2))
    slots = torch.randperm(NUM_PAGES * BLOCK_SIZE, generator=torch.Generator().manual_seed(1))[:21].to(draw.device)
    k, v = draw.view(21, 2, 32), draw.view(21, 2, 48)
    k[3] = 0
    resolve(provider)(k, v, got, slots, layout)
    OPERATORS["write_kv"](k, v, exact, slots, layout)
    for mine, truth in zip(got, exact, strict=True):
        assert torch.equal(mine, truth)


@only(operator="attend")
@dtypes
@layouts
@pytest.mark.parametrize("heads, kv_heads", [(4, 4), (8, 2), (3, 1)])
def test_attend(provider: Provider, dtype: str, layout: str, heads: int, kv_heads: int) -> None:
    """Prompts, chunks and single tokens in one batch over shuffled pages that hold NaN where nothing was written."""
    _check_attend(provider, dtype, layout, Heads(heads, kv_heads))


@only(operator="attend")
@dtypes
@layouts
@pytest.mark.parametrize("features", [{}, {"window": 7}, {"soft_cap": 0.7}], ids=str)
def test_attend_to_rounded(provider: Provider, dtype: str, layout: str, features: dict[str, Any]) -> None:
    """Keys and values in int8 count as what they were rounded to."""
    for feature in features:
        require(_spec(provider).features, {"window": "sliding_window"}.get(feature, feature), "the feature")
    _check_attend(provider, dtype, layout, Heads(), kv_dtype=torch.int8, **features)


@only(operator="attend")
@layouts
@pytest.mark.parametrize("sizes", [(64, 64), (80, 80), (128, 128), (48, 32)])
def test_attend_over_head_sizes(provider: Provider, layout: str, sizes: tuple[int, int]) -> None:
    """Any head size; values may be shorter than keys."""
    _check_attend(provider, "float32", layout, Heads(4, 2, *sizes))


@only(operator="attend")
@layouts
@pytest.mark.parametrize("window", [1, 7, 16, 1000])
def test_attend_with_a_sliding_window(provider: Provider, layout: str, window: int) -> None:
    """A query sees the last ``window`` keys, its own included; what lies before them is not even read."""
    require(_spec(provider).features, "sliding_window", "the feature")
    _check_attend(provider, "float32", layout, Heads(), window=window)


@only(operator="attend")
@layouts
def test_attend_with_a_soft_cap(provider: Provider, layout: str) -> None:
    """Scores are bent by tanh before the softmax."""
    require(_spec(provider).features, "soft_cap", "the feature")
    _check_attend(provider, "float32", layout, Heads(), soft_cap=0.7)


@only(operator="attend")
@layouts
def test_attend_with_sinks(provider: Provider, layout: str) -> None:
    """A sink takes its share of the softmax and brings no value."""
    require(_spec(provider).features, "sinks", "the feature")
    _check_attend(provider, "float32", layout, Heads(), sinks=torch.tensor([0.5, -1.0, 2.0, 0.0]))


@only(operator="attend")
@layouts
def test_attend_without_causality(provider: Provider, layout: str) -> None:
    """Every query sees every key of its request, as the shared part of a cascade needs."""
    require(_spec(provider).features, "lse", "the feature")
    _check_attend(provider, "float32", layout, Heads(), causal=False)


@only(operator="attend")
@layouts
@pytest.mark.parametrize("slack", [1, 20])
def test_attend_with_bounds_above_the_lengths(provider: Provider, layout: str, slack: int) -> None:
    """Lengths on the host are upper bounds; the exact ones are on the device."""
    _check_attend(provider, "float32", layout, Heads(), slack=slack)


@only(operator="write_latent")
@dtypes
def test_write_latent(provider: Provider, dtype: str) -> None:
    """Each token's latent lands in its slot, bit by bit, and nothing else is touched."""
    spec = _spec(provider)
    draw = _draw(spec, dtype)
    got, exact = (draw.tensor(NUM_PAGES, BLOCK_SIZE, 40) * torch.nan for _ in range(2))
    slots = torch.randperm(NUM_PAGES * BLOCK_SIZE, generator=torch.Generator().manual_seed(1))[:21].to(draw.device)
    latent = draw.view(21, 1, 40).squeeze(1)
    resolve(provider)(latent, got, slots)
    OPERATORS["write_latent"](latent, exact, slots)
    assert torch.equal(got.view(torch.uint8), exact.view(torch.uint8))


@only(operator="attend_latent")
@dtypes
@pytest.mark.parametrize("heads, latent, rope", [(4, 32, 8), (1, 24, 20), (16, 128, 64)])
@pytest.mark.parametrize("slack", [0, 20])
def test_attend_latent(provider: Provider, dtype: str, heads: int, latent: int, rope: int, slack: int) -> None:
    """Prompts, chunks and single tokens in one batch, of which a key's first elements are its value."""
    _check_attend(provider, dtype, "hnd", Heads(heads, 1, latent + rope, latent), slack=slack)


# -- how the rules look -------------------------------------------------------------------------------------------


def _check_attend(
    provider: Provider,
    dtype: str,
    layout: str,
    shape: Heads,
    *,
    kv_dtype: torch.dtype | None = None,
    causal: bool = True,
    slack: int = 0,
    **features: Any,
) -> None:
    """Of ``attend``, or of ``attend_latent`` where values are keys' first elements and pages one tensor."""
    spec = _spec(provider)
    over_latents = spec.operator == "attend_latent"
    if not over_latents:
        _require_layout(provider, layout)
    rounded = kv_dtype == torch.int8
    draw = _draw(spec, dtype, "int8" if rounded else dtype)
    pages = _pages(draw, layout, shape.kv_heads, shape.dim_k, shape.dim_v, kv_dtype)
    pool = Pool(NUM_PAGES, BLOCK_SIZE, device=draw.device)
    truths = KeysAsValues if over_latents else TruthOfRounded if rounded else Truth
    truth = truths(shape, draw.dtype, draw.device, seed=3)
    sequences = [pool.sequence() for _ in range(5)]

    def write(scheduled: list[tuple[Cached, int]], slack: int = 0) -> tuple[AttentionBatch, Tensor]:
        batch = pool.step(scheduled, slack=slack)
        q, k, v = truth.draw(scheduled)
        OPERATORS["write_kv"](k, v, pages, batch.slot_mapping, layout)
        return batch, q

    write(list(zip(sequences, (20, 31, 16, 1), strict=False)))
    if "window" in features:
        for sequence in sequences:
            pool.leave_behind(sequence, features["window"])
    scheduled = list(zip(sequences, (1, 9, 1, 2, 18), strict=True))
    batch, q = write(scheduled, slack)
    features["scale"] = shape.dim_k**-0.5
    if "sinks" in features:
        features["sinks"] = features["sinks"].to(draw.device)
    wants_lse = "lse" in spec.features
    plan = AttendPlan.of(batch, layout, causal=causal)
    attend = resolve(provider)
    if over_latents:
        attend = partial(attend, latent=shape.dim_v)
    for _ in range(2):  # the second layer finds what the first one left in the plan
        out, lse = attend(q, pages.k.squeeze(1) if over_latents else pages, plan, return_lse=wants_lse, **features)
        exact, exact_lse = truth.expected(scheduled, q, causal=causal, **features)
        assert out.dtype == q.dtype
        within = tolerance_of(dtype, rounded=rounded)
        assert_close(out, exact, within, "out")
        if wants_lse:
            assert lse is not None
            assert lse.dtype == torch.float32
            assert_close(lse, exact_lse, within, "lse")


def _pages(draw: Draw, layout: str, kv_heads: int, dim_k: int, dim_v: int, dtype: torch.dtype | None = None) -> KVPages:
    """Pages full of NaN."""
    kv = FullKV(kv_heads=kv_heads, dim_k=dim_k, dim_v=dim_v)
    return poisoned(layout_of(layout, kv, BLOCK_SIZE, dtype or draw.dtype), NUM_PAGES, dtype or draw.dtype, draw.device)


def _require_layout(provider: Provider, layout: str) -> None:
    require(getattr(resolve(provider), "layouts", PLAIN_LAYOUTS), layout, "the layout")


def _spec(provider: Provider) -> KernelSpec:
    assert isinstance(provider.spec, KernelSpec)
    return provider.spec


def _draw(spec: KernelSpec, dtype: str, kv_dtype: str | None = None) -> Draw:
    require(spec.dtypes, dtype, "the dtype")
    if kv_dtype is not None:
        require(spec.kv_dtypes, kv_dtype, "the KV dtype")
    device = device_of(spec)
    query = KernelQuery(operator=spec.operator, device=facts_of(device), dtype=dtype, kv_dtype=kv_dtype or dtype)
    skip_if_refused(spec, query)
    return Draw(getattr(torch, dtype), device)


def _answer(operator: str, function: Any, *arguments: Any) -> tuple[Tensor, ...]:
    packed = PACKED.get(operator, 0)
    answer = function(*arguments[:packed])(*arguments[packed:]) if packed else function(*arguments)
    return answer if isinstance(answer, tuple) else (answer,)


def _dtypes(operator: str, dtype: str) -> tuple[torch.dtype, ...]:
    own = getattr(torch, dtype)
    return {"merge_states": (own, torch.float32), "add_rms_norm": (own, own), "rotary": (own, own)}.get(
        operator, (own,)
    )


def _cloned(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copies with the same strides, in memory of their own."""
    return tuple(_like(value) if isinstance(value, Tensor) else value for value in arguments)


def _like(tensor: Tensor) -> Tensor:
    copy = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)
    return copy.copy_(tensor)


def _doubled(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same values in float64; whole numbers stay what they are."""
    return tuple(
        value.double() if isinstance(value, Tensor) and value.is_floating_point() else value for value in arguments
    )
