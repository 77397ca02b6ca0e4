"""Keys and values into their pages."""

from __future__ import annotations

import torch
from torch import Tensor

from openlathe.kernels.pages import knows
from openlathe.kernels.write_kv import write_kv as reference
from openlathe.spi import KVPages

from .attend import steps
from .calls import SHARED, arguments, operator
from .linear import NAMES

WriteKV = arguments(
    "WriteKV",
    pointers="k v k_pages v_pages slot_mapping",
    integers="k_from_token k_from_head k_page k_head k_token dim_k "
    "v_from_token v_from_head v_page v_head v_token dim_v tokens heads block_size size lanes rounded",
)
#: Elements of a row that are rounded at once, as in native/write_kv.cpp.
LONGEST = 1024


@knows("lanes", "hnd", "nhd")
def write_kv(k: Tensor, v: Tensor, pages: KVPages, slot_mapping: Tensor, layout: str) -> None:
    """:func:`openlathe.kernels.write_kv.write_kv`, to which dtypes without a native function are left."""
    rounded = pages.k.dtype == torch.int8
    dtypes = (k.dtype, v.dtype, pages.k.dtype, pages.v.dtype)
    if not _serves(k, v, rounded) or not (rounded or len(set(dtypes)) == 1):
        return reference(k, v, pages, slot_mapping, layout)
    slots = slot_mapping.contiguous()
    tokens, heads, _ = k.shape
    operator("write_kv")(
        WriteKV(
            k.data_ptr(),
            v.data_ptr(),
            *(page.data_ptr() for page in pages),
            slots.data_ptr(),
            *_side(k, pages.k, layout),
            *_side(v, pages.v, layout),
            tokens,
            heads,
            _block_size(pages.v, layout),
            k.itemsize,
            layout == "lanes",
            rounded,
        ),
        alone=k.numel() + v.numel() < SHARED,
    )
    return None


def _serves(k: Tensor, v: Tensor, rounded: bool) -> bool:
    if k.stride(-1) != 1 or v.stride(-1) != 1 or k.dtype != v.dtype:
        return False
    return not rounded or (k.dtype in NAMES and max(k.shape[-1], v.shape[-1]) <= LONGEST)


def _side(rows: Tensor, page: Tensor, layout: str) -> tuple[int, ...]:
    """Strides in bytes, and the size of a row."""
    size = rows.itemsize
    strides = (step * page.itemsize for step in steps(page, layout))
    return rows.stride(0) * size, rows.stride(1) * size, *strides, rows.shape[-1]


def _block_size(values: Tensor, layout: str) -> int:
    if layout == "lanes":
        return values.shape[2] * values.shape[4]
    return values.shape[2 if layout == "hnd" else 1]
