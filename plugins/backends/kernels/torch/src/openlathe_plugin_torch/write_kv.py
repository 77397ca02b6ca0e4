"""Keys and values into their pages."""

from __future__ import annotations

from torch import Tensor

from openlathe.spi import KVPages


def write_kv(k: Tensor, v: Tensor, pages: KVPages, slot_mapping: Tensor, layout: str) -> None:
    """:func:`openlathe.kernels.write_kv.write_kv`, with one computation of the addresses for both."""
    keys, values = (page.transpose(1, 2) if layout == "hnd" else page for page in pages)
    block_size = keys.shape[1]
    where = (slot_mapping // block_size, slot_mapping % block_size)
    keys[where] = k.to(keys.dtype)
    values[where] = v.to(values.dtype)
