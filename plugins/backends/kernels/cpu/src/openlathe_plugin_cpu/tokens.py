"""From tokens to rows of an embedding, and from scores to tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openlathe.kernels.draw import Filters
from openlathe.kernels.draw import draw as draw_reference
from openlathe.kernels.embedding import embedding as embedding_reference
from openlathe.kernels.greedy import greedy as greedy_reference

from .calls import SHARED, arguments, empty, operator
from .linear import NAMES

Embedding = arguments("Embedding", pointers="ids weight y", integers="tokens bytes")
Greedy = arguments("Greedy", pointers="scores tokens", integers="bytes stride rows vocabulary")
Draw = arguments(
    "Draw",
    pointers="scores temperature top_k top_p min_p uniform tokens",
    integers="bytes stride rows vocabulary",
)


def embedding(ids: Tensor, weight: Tensor) -> Tensor:
    """:func:`openlathe.kernels.embedding.embedding`, of any dtype."""
    if ids.dtype != torch.int64 or not ids.is_contiguous() or not weight.is_contiguous():
        return embedding_reference(ids, weight)
    y = empty((len(ids), weight.shape[1]), weight.dtype)
    operator("embedding")(
        Embedding(ids.data_ptr(), weight.data_ptr(), y.data_ptr(), len(ids), weight.shape[1] * weight.itemsize),
        alone=y.numel() < SHARED,
    )
    return y


def greedy(scores: Tensor) -> Tensor:
    """:func:`openlathe.kernels.greedy.greedy`; dtypes without a native function are left to it."""
    if scores.dtype not in NAMES or scores.stride(-1) != 1:
        return greedy_reference(scores)
    tokens = empty((len(scores),), torch.int64)
    operator("greedy")(Greedy(scores.data_ptr(), tokens.data_ptr(), scores.itemsize, scores.stride(0), *scores.shape))
    return tokens


def draw(scores: Tensor, temperature: NDArray[np.float32], filters: Filters, uniform: NDArray[np.float64]) -> Tensor:
    """:class:`openlathe.kernels.draw.DrawOperator`; dtypes without a native function are left to the reference."""
    if scores.dtype not in NAMES or scores.stride(-1) != 1:
        return draw_reference(scores, temperature, filters, uniform)
    tokens = torch.empty(len(scores), dtype=torch.int64)
    columns: list[NDArray[Any]] = [
        np.ascontiguousarray(temperature, np.float32),
        np.ascontiguousarray(filters.top_k, np.int64),
        *(np.ascontiguousarray(column, np.float64) for column in (filters.top_p, filters.min_p, uniform)),
    ]
    operator("draw")(
        Draw(
            scores.data_ptr(),
            *(column.ctypes.data for column in columns),
            tokens.data_ptr(),
            scores.itemsize,
            scores.stride(0),
            *scores.shape,
        )
    )
    return tokens
