"""How keys and values lie in their pages: the named layouts, and keys and values rounded to eight bits.

P slots a page and D elements a row. ``hnd`` is [kv_heads, P, D] and ``nhd`` [P, kv_heads, D]. ``lanes`` is for vectors
of LANES words of 32 bits: ``pair`` neighbouring elements of a key make a word, and LANES keys lie side by side,
[kv_heads, P / LANES, D / pair, LANES, pair]; of values the same element of ``pair`` neighbours makes a word, [kv_heads,
P / pair, D, pair]. So neither is rearranged to be multiplied, and nothing is summed across lanes.

A row rounded to int8 is followed by its scale, four bytes that are a float32, and is one of D + 4 elements to a layout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..spi import FullKV, KVLayout, KVPages

LANES = 16
LAYOUTS = ("hnd", "nhd", "lanes")
#: Those of an operator that does not say what it knows.
PLAIN_LAYOUTS = ("hnd", "nhd")
#: Elements that the scale of a rounded row takes.
SCALE_ELEMENTS = 4
GREATEST = 127

Operator = TypeVar("Operator", bound=Callable[..., Any])


def knows(*layouts: str) -> Callable[[Operator], Operator]:
    """Marks a provider of ``write_kv`` or ``attend`` with the layouts it knows, the one it likes best first."""

    def mark(operator: Operator) -> Operator:
        operator.__dict__["layouts"] = layouts
        return operator

    return mark


def choose_layout(
    kv: FullKV, block_size: int, dtype: torch.dtype, attend: Callable[..., Any], write_kv: Callable[..., Any]
) -> KVLayout:
    """The layout that ``attend`` likes best of those that ``write_kv`` knows as well and that pages can have."""
    known = getattr(write_kv, "layouts", PLAIN_LAYOUTS)
    fits = block_size % LANES == 0 and kv.dim_k % LANES == kv.dim_v % LANES == 0
    name = next(
        name for name in getattr(attend, "layouts", PLAIN_LAYOUTS) if name in known and (fits or name in PLAIN_LAYOUTS)
    )
    return layout_of(name, kv, block_size, dtype)


def layout_of(name: str, kv: FullKV, block_size: int, dtype: torch.dtype) -> KVLayout:
    """The layout of that name for pages of ``block_size`` tokens."""
    pair = 4 // dtype.itemsize
    dim_k, dim_v = (dim + (SCALE_ELEMENTS if dtype == torch.int8 else 0) for dim in (kv.dim_k, kv.dim_v))
    if name == "lanes":
        k_shape: tuple[int, ...] = (kv.kv_heads, block_size // LANES, dim_k // pair, LANES, pair)
        return KVLayout(name=name, k_shape=k_shape, v_shape=(kv.kv_heads, block_size // pair, dim_v, pair))
    middle = (kv.kv_heads, block_size) if name == "hnd" else (block_size, kv.kv_heads)
    return KVLayout(name=name, k_shape=(*middle, dim_k), v_shape=(*middle, dim_v))


def by_token(pages: KVPages, layout: str) -> KVPages:
    """Views [blocks, outer, inner, kv_heads, ...]: slot s of a page is ``[s // inner, s % inner]``; what follows the
    heads, flattened, are the elements of a row."""
    k, v = pages
    if layout == "lanes":
        return KVPages(k.permute(0, 2, 4, 1, 3, 5), v.permute(0, 2, 4, 1, 3))
    if layout == "hnd":
        k, v = k.transpose(1, 2), v.transpose(1, 2)
    return KVPages(k.unsqueeze(2), v.unsqueeze(2))


def rows_of(pages: KVPages, blocks: Tensor, layout: str) -> KVPages:
    """Every key and value of ``blocks`` [n]: [n * P, kv_heads, D], in float32 at least."""
    return KVPages(*(_plain(view[blocks].flatten(0, 2).flatten(2)) for view in by_token(pages, layout)))


def _plain(rows: Tensor) -> Tensor:
    return dequantise(rows) if rows.dtype == torch.int8 else rows.to(torch.promote_types(rows.dtype, torch.float32))


def value_size(pages: KVPages, layout: str) -> int:
    """Elements of a value."""
    elements = pages.v.shape[3 if layout == "lanes" else -1]
    return elements - SCALE_ELEMENTS if pages.v.dtype == torch.int8 else elements


def quantise(rows: Tensor) -> Tensor:
    """``rows`` [..., D] -> [..., D + 4] int8: whole numbers up to 127 in size, then the scale they are multiples of.

    Symmetric, one scale a row, rounded half to even.
    """
    rows = rows.float()
    most = rows.abs().amax(-1, keepdim=True)
    inverse, scale = torch.where(most > 0, GREATEST / most, 0.0), most / GREATEST
    return torch.cat([(rows * inverse).round().to(torch.int8), scale.contiguous().view(torch.int8)], dim=-1)


def dequantise(rows: Tensor) -> Tensor:
    """``rows`` [..., D + 4] of :func:`quantise` -> [..., D] float32."""
    scale = rows[..., -SCALE_ELEMENTS:].contiguous().view(torch.float32)
    return rows[..., :-SCALE_ELEMENTS].float() * scale
