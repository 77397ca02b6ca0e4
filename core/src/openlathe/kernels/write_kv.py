"""Keys and values of a step's tokens into their pages."""

from __future__ import annotations

import torch
from torch import Tensor

from ..spi import KVPages
from .pages import LAYOUTS, by_token, knows, quantise


@knows(*LAYOUTS)
def write_kv(k: Tensor, v: Tensor, pages: KVPages, slot_mapping: Tensor, layout: str) -> None:
    """Writes ``k`` [T, kv_heads, Dk] and ``v`` [T, kv_heads, Dv] at ``slot_mapping`` [T] int64 (no slot twice).

    Slot s is token ``s % block_size`` of page ``s // block_size``; ``layout`` is one of :mod:`openlathe.kernels.pages`,
    which also says how rows are rounded to int8. To other dtypes of the pages values are rounded one by one.
    """
    for rows, view in zip((k, v), by_token(pages, layout), strict=True):
        outer, inner = view.shape[1:3]
        block, slot = slot_mapping // (outer * inner), slot_mapping % (outer * inner)
        rounded = quantise(rows) if view.dtype == torch.int8 else rows.to(view.dtype)
        view[block, slot // inner, slot % inner] = rounded.reshape(len(rows), *view.shape[3:])
