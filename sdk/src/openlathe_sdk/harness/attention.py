"""Steps of random queries, keys and values, with the answers that attention over everything so far must give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from openlathe.kernels.pages import dequantise, quantise
from openlathe.layers.context import BuildContext
from openlathe.plugins.resolve import resolve
from openlathe.spi import (
    AttentionBackendSpec,
    AttentionQuery,
    EncoderOnly,
    FullKV,
    KVLayout,
    KVPages,
    Provider,
    SlidingKV,
)

from ..reference.attention import attention
from .paging import Cached, Pool, without_cache
from .tolerance import assert_close, tolerance_of
from .under_test import device_of, facts_of, require, skip_if_refused

Scheduled = Sequence[tuple[Cached, int]]


class Heads(NamedTuple):
    """The shape of an attention layer."""

    heads: int = 4
    kv_heads: int = 2
    dim_k: int = 32
    dim_v: int = 32


HEADS = Heads()


def poisoned(layout: KVLayout, num_pages: int, dtype: torch.dtype, device: torch.device) -> KVPages:
    """Pages that hold NaN wherever nothing was written, as scales where they are of int8."""
    fill = -1 if dtype == torch.int8 else torch.nan
    k, v = (
        torch.full((num_pages, *shape), fill, dtype=dtype, device=device) for shape in (layout.k_shape, layout.v_shape)
    )
    return KVPages(k, v)


class Truth:
    """What one layer has been told so far, sequence by sequence, without pages."""

    def __init__(self, shape: Heads, dtype: torch.dtype, device: torch.device, *, seed: int) -> None:
        self.shape = shape
        self.dtype = dtype
        self.device = device
        self._generator = torch.Generator().manual_seed(seed)
        self._keys: dict[Cached, Tensor] = {}
        self._values: dict[Cached, Tensor] = {}

    def draw(self, scheduled: Scheduled) -> tuple[Tensor, ...]:
        """q [T, heads, Dk], k [T, kv_heads, Dk], v [T, kv_heads, Dv] of new tokens; k and v are remembered."""
        drawn = [self._draw(sequence, count) for sequence, count in scheduled]
        q, k, v = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        return q, k, v

    def _draw(self, sequence: Cached, count: int) -> tuple[Tensor, Tensor, Tensor]:
        shape = self.shape
        q = self._random(count, shape.heads, shape.dim_k)
        k = self._random(count, shape.kv_heads, shape.dim_k)
        v = self._draw_values(k)
        self._keys[sequence] = torch.cat([self._keys[sequence], k]) if sequence in self._keys else k
        self._values[sequence] = torch.cat([self._values[sequence], v]) if sequence in self._values else v
        return q, k, v

    def _draw_values(self, k: Tensor) -> Tensor:
        return self._random(len(k), self.shape.kv_heads, self.shape.dim_v)

    def fork(self, sequence: Cached, forked: Cached) -> None:
        self._keys[forked] = self._keys[sequence][: forked.length]
        self._values[forked] = self._values[sequence][: forked.length]

    def expected(self, scheduled: Scheduled, q: Tensor, **features: Any) -> tuple[Tensor, Tensor]:
        """out [T, heads, Dv] and lse [T, heads] for the queries of this step."""
        parts = q.split([count for _, count in scheduled])
        answers = [
            attention(part, self._keys[sequence], self._values[sequence], **features)
            for part, (sequence, _) in zip(parts, scheduled, strict=True)
        ]
        return torch.cat([out for out, _ in answers]), torch.cat([lse for _, lse in answers])

    def sinks(self) -> Tensor:
        """[heads] float32."""
        return torch.randn(self.shape.heads, generator=self._generator).to(self.device)

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator).to(self.dtype).to(self.device)


class TruthOfRounded(Truth):
    """Keys and values are what is left of them in a cache of int8."""

    def expected(self, scheduled: Scheduled, q: Tensor, **features: Any) -> tuple[Tensor, Tensor]:
        exact = self._keys, self._values
        self._keys, self._values = (
            {sequence: dequantise(quantise(rows)) for sequence, rows in kept.items()} for kept in exact
        )
        try:
            return super().expected(scheduled, q, **features)
        finally:
            self._keys, self._values = exact


@dataclass
class Layer:
    """An attention layer as a backend sees it; follows :class:`openlathe.spi.AttentionLayer`."""

    pages: KVPages
    scale: float
    num_heads: int
    window: int | None = None
    soft_cap: float | None = None
    sinks: Tensor | None = None
    causal: bool = True

    def features(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("scale", "window", "soft_cap", "sinks", "causal")}


@dataclass
class Bench:
    """An attention backend with a pool and layers around it, every step of which is compared with the truth.

    Skips what the provider does not declare, or refuses with reasons. ``encoder``: attention both ways over whole
    prompts, without a cache.
    """

    provider: Provider
    dtype: str = "float32"
    shape: Heads = HEADS
    block_size: int = 16
    window: int | None = None
    soft_cap: float | None = None
    with_sinks: bool = False
    encoder: bool = False
    num_layers: int = 1
    num_pages: int = 64
    kv_dtype: str | None = None
    layers: list[Layer] = field(init=False)

    def __post_init__(self) -> None:
        spec = self.provider.spec
        assert isinstance(spec, AttentionBackendSpec)
        kv = self._kv()
        self._require_declared(spec, kv)
        self.device = device_of(spec)
        dtype = getattr(torch, self.dtype)
        kv_dtype = getattr(torch, self.kv_dtype or self.dtype)
        context = BuildContext(dtype=dtype, kv_dtype=kv_dtype, device=self.device, block_size=self.block_size)
        self.backend = resolve(self.provider)(kv, self.shape.heads, self.block_size, context)
        self.pool = Pool(self.num_pages, self.block_size, device=self.device)
        self.truths = [self._truth(dtype, seed=layer) for layer in range(self.num_layers)]
        self.layers = [self._layer(kv, kv_dtype, truth) for truth in self.truths]

    def step(self, scheduled: Scheduled, **batch: Any) -> list[Tensor]:
        """Runs one step through every layer, asserts what they answer, and returns it."""
        step = self.pool.step(scheduled, **batch)
        plan = self.backend.plan(without_cache(step) if self.encoder else step)
        answers = []
        for index, (layer, truth) in enumerate(zip(self.layers, self.truths, strict=True)):
            drawn = truth.draw(scheduled)
            got = self.backend.run(*(tensor.clone() for tensor in drawn), layer, plan)
            expected, _ = truth.expected(scheduled, drawn[0], **layer.features())
            assert got.dtype == drawn[0].dtype, f"attention answers in {got.dtype}"
            within = tolerance_of(self.dtype, rounded=self.kv_dtype == "int8")
            assert_close(got, expected, within, f"attention of layer {index}")
            answers.append(got.clone())
        return answers

    def prompts(self, *lengths: int) -> None:
        """One step of whole prompts of these lengths."""
        self.step([(self.pool.sequence(), length) for length in lengths])

    def sequences(self, *lengths: int) -> list[Cached]:
        """Sequences with so many tokens in the cache already."""
        made = [self.pool.sequence() for _ in lengths]
        if filled := [(sequence, length) for sequence, length in zip(made, lengths, strict=True) if length]:
            self.step(filled)
        return made

    def fork(self, sequence: Cached) -> Cached:
        forked = self.pool.fork(sequence)
        for truth in self.truths:
            truth.fork(sequence, forked)
        return forked

    def _truth(self, dtype: torch.dtype, *, seed: int) -> Truth:
        truths = TruthOfRounded if self.kv_dtype == "int8" else Truth
        return truths(self.shape, dtype, self.device, seed=seed)

    def _kv(self) -> FullKV | EncoderOnly:
        shape = self.shape
        if self.encoder:
            return EncoderOnly(window=self.window)
        if self.window is None:
            return FullKV(kv_heads=shape.kv_heads, dim_k=shape.dim_k, dim_v=shape.dim_v)
        return SlidingKV(kv_heads=shape.kv_heads, dim_k=shape.dim_k, dim_v=shape.dim_v, window=self.window)

    def _require_declared(self, spec: AttentionBackendSpec, kv: FullKV | EncoderOnly) -> None:
        wanted: Mapping[str, Any] = {
            "sliding_window": self.window is not None,
            "soft_cap": self.soft_cap is not None,
            "sinks": self.with_sinks,
        }
        features = frozenset(name for name, needed in wanted.items() if needed)
        require(spec.kv, type(kv).__name__, "the KV spec")
        require(spec.dtypes, self.dtype, "the dtype")
        require(spec.kv_dtypes, self.kv_dtype or self.dtype, "the KV dtype")
        for feature in features:
            require(spec.features, feature, "the feature")
        for size in {self.shape.dim_k, self.shape.dim_v}:
            require(spec.head_dims, size, "the head size")
        if self.block_size % spec.block_size_multiple:
            pytest.skip(f"a block size of {self.block_size} is not declared")
        query = AttentionQuery(
            device=facts_of(device_of(spec)),
            dtype=self.dtype,
            kv_dtype=self.kv_dtype or self.dtype,
            kv=kv,
            num_heads=self.shape.heads,
            block_size=self.block_size,
            features=features,
        )
        skip_if_refused(spec, query)

    def _layer(self, kv: FullKV | EncoderOnly, dtype: torch.dtype, truth: Truth) -> Layer:
        """Its pages hold NaN wherever nothing was written, so that one value too many spoils the answer."""
        return Layer(
            pages=poisoned(self.backend.kv_layout(kv), self.num_pages, dtype, self.device),
            scale=self.shape.dim_k**-0.5,
            num_heads=self.shape.heads,
            window=self.window,
            soft_cap=self.soft_cap,
            sinks=truth.sinks() if self.with_sinks else None,
            causal=not self.encoder,
        )
