"""The tensors of a safetensors file where they lie: in the page cache, mapped, and read when they are touched."""

from __future__ import annotations

import mmap
import weakref
from collections.abc import Iterator
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoint import data_start, read_header
from ..spi import CheckpointError

#: The types of the format by its names.
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def mapped_tensors(file: Path) -> Iterator[tuple[str, Tensor]]:
    """Name and content of each tensor, in the order they lie in the file; raises ``CheckpointError``.

    A tensor may be kept: it is shared with whoever else reads the file, and what is written to it stays its own. One
    that nobody keeps leaves this process's memory.
    """
    header = read_header(file)
    try:
        data = data_start(file, header)
        with file.open("rb") as opened:
            mapping = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise CheckpointError(f"{file} cannot be read: {error}.") from None
    for name in sorted(header, key=lambda name: header[name]["data_offsets"]):
        try:
            yield name, _tensor(mapping, data, **header[name])
        except (KeyError, TypeError, ValueError):
            raise CheckpointError(f"The header of {file} is damaged at {name}; download it again.") from None


def mapped_tensor(mapping: mmap.mmap, begin: int, dtype: torch.dtype, shape: list[int]) -> Tensor:
    """``shape`` elements of ``mapping`` from byte ``begin`` on; their pages are let go with the last tensor on them."""
    count = prod(shape)
    if not count:
        return torch.empty(shape, dtype=dtype)
    view = memoryview(mapping)[begin : begin + count * dtype.itemsize]
    first, end = begin + -begin % mmap.PAGESIZE, begin + len(view)
    if first < end and hasattr(mmap, "MADV_DONTNEED"):
        whole = end - end % mmap.PAGESIZE - first
        weakref.finalize(view, mapping.madvise, mmap.MADV_DONTNEED, first, max(whole, 0)).atexit = False
    if begin % dtype.itemsize:  # older files do not align their data
        return torch.frombuffer(view, dtype=torch.uint8).clone().view(dtype).view(shape)
    return torch.frombuffer(view, dtype=dtype).view(shape)


def _tensor(mapping: mmap.mmap, data: int, dtype: str, shape: list[int], data_offsets: tuple[int, int]) -> Tensor:
    begin, end = data_offsets
    if end - begin != prod(shape) * DTYPES[dtype].itemsize:
        raise ValueError
    return mapped_tensor(mapping, data + begin, DTYPES[dtype], shape)
