"""Linear layers whose rows come out the same in any company."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from openlathe.kernels.linear import Gate, PackedLinear, PlainLinear, gated

from .ladder import Ladder, climb

#: The numbers of rows that are tried; a step is cut into these and filled up with zeros.
ROWS = (
    *(1, 2, 4, 6, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64),
    *(96, 128, 192, 256, 384, 512, 768, 1024),
)
#: Most elements that an answer may have while they are tried: a head's logits are not made for a thousand rows.
MOST_ELEMENTS = 1 << 23
#: Torch's allocator aligns to this many bytes, and how MKL adds up may depend on the alignment.
ALIGNMENT = 64


class OneDNNLinear:
    """Follows :class:`openlathe.kernels.linear.PackedLinear` with a weight in oneDNN's own arrangement."""

    weight: Tensor | None = None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, 32)
        self.bias = bias
        self.nbytes = weight.nbytes + (bias.nbytes if bias is not None else 0)

    def __call__(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


class InvariantLinear:
    """Follows :class:`openlathe.kernels.linear.PackedLinear`; ``ladder`` holds the numbers of rows it multiplies."""

    def __init__(self, inner: PackedLinear, ladder: Ladder) -> None:
        self.inner = inner
        self.ladder = ladder
        self.weight = inner.weight
        self.nbytes = inner.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        parts, start = [], 0
        for rows, filled in self.ladder.cut(len(x)):
            part = _aligned(x[start : start + rows].contiguous())
            if filled > rows:
                part = F.pad(part, (0, 0, 0, filled - rows))
            parts.append(self.inner(part)[:rows])
            start += rows
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def linear(weight: Tensor, bias: Tensor | None = None, gate: Gate | None = None) -> PackedLinear:
    """:func:`openlathe.kernels.linear.linear`."""
    ladder = _ladder(*weight.shape, weight.dtype, bias is not None, torch.get_num_threads())
    return gated(InvariantLinear(_pack(weight, bias), ladder), gate)


def _pack(weight: Tensor, bias: Tensor | None) -> PackedLinear:
    """In oneDNN's arrangement, or as it lies where oneDNN cannot."""
    try:
        return OneDNNLinear(weight, bias)
    except (RuntimeError, AttributeError):
        return PlainLinear(weight, bias)


@cache
def _ladder(outputs: int, inputs: int, dtype: torch.dtype, has_bias: bool, threads: int) -> Ladder:
    """The numbers of rows that a weight of this shape multiplies alike, on so many threads."""
    weight, row = cancelling(outputs, inputs, dtype)
    packed = _pack(weight, torch.zeros(outputs, dtype=dtype) if has_bias else None)
    counts = (count for count in ROWS if count == 1 or count * outputs <= MOST_ELEMENTS)
    ladder = climb(counts, lambda count: packed(row.expand(count, -1).contiguous()))
    assert ladder is not None, "a single row is like itself"
    return ladder


def cancelling(outputs: int, inputs: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A weight [outputs, inputs] and a row [inputs] whose product is zero: what a computer answers instead is rounding
    error alone, and tells apart any two orders of adding, also behind the short mantissa of a bfloat16."""
    generator = torch.Generator().manual_seed(0)
    half = inputs // 2
    order = torch.randperm(half, generator=generator)
    exponents = torch.randint(-10, 11, (half,), generator=generator)
    values = torch.randn(half, generator=generator).ldexp(exponents).to(dtype)
    columns = torch.randn(min(outputs, 64), half, generator=generator).to(dtype)
    weight = torch.zeros(outputs, inputs, dtype=dtype)
    row = torch.zeros(inputs, dtype=dtype)
    row[:half], row[half : 2 * half] = values, -values[order]
    for start in range(0, outputs, len(columns)):
        part = weight[start : start + len(columns)]
        part[:, :half], part[:, half : 2 * half] = columns[: len(part)], columns[: len(part), order]
    return weight, row


def _aligned(x: Tensor) -> Tensor:
    return x if x.data_ptr() % ALIGNMENT == 0 else x.clone()
