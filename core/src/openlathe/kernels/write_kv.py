"""Keys and values of a step's tokens into their pages."""

from __future__ import annotations

from torch import Tensor

from ..spi import KVPages


def write_kv(k: Tensor, v: Tensor, pages: KVPages, slot_mapping: Tensor, layout: str) -> None:
    """Writes ``k`` [T, kv_heads, Dk] and ``v`` [T, kv_heads, Dv] at ``slot_mapping`` [T] int64 (no slot twice).

    Slot s is token ``s % block_size`` of page ``s // block_size``; ``layout`` is ``hnd`` or ``nhd``
    (:class:`openlathe.spi.KVPages`). Values are rounded to the dtype of the pages.
    """
    for tensor, page in zip((k, v), pages, strict=True):
        by_token = page.transpose(1, 2) if layout == "hnd" else page
        block_size = by_token.shape[1]
        by_token[slot_mapping // block_size, slot_mapping % block_size] = tensor.to(page.dtype)
