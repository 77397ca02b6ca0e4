"""A file of packed weights: their tensors as they lie in memory, then a list of what they are.

Each tensor begins at a page. The list is JSON; its digest, its length and eight bytes that name the format end the
file, so that one that was cut short is no file of this format. Each tensor has a digest of its two ends, which a disk
that lost what it was given would not keep.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .mapped import mapped_tensor

FORMAT = b"olpack01"
_DIGEST = hashlib.sha256().digest_size
_TRAILER = _DIGEST + 8 + len(FORMAT)
#: Bytes of either end of a tensor that its digest covers.
_END = 4096


class Unusable(ValueError):
    """A file that is not what was written; the message continues the sentence "It ..."."""


@dataclass(kw_only=True)
class StoredTensor:
    begin: int
    dtype: str
    shape: list[int]
    digest: str


@dataclass(kw_only=True)
class StoredModule:
    """A module's packed weight; ``target`` is its class as an import string, ``gated`` tells that it needs no gate."""

    target: str
    layout: str
    gated: bool = True
    facts: dict[str, Any]
    tensors: dict[str, StoredTensor] = field(default_factory=dict)


class PackedWriter:
    """Writes beside ``path`` and takes its place at the end, so that there is never half a file; raises ``OSError``."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._scratch = path.with_name(f".{path.name}-{os.getpid()}")
        self._file = self._scratch.open("wb", buffering=0)
        self._modules: dict[str, StoredModule] = {}

    def add(self, module: str, entry: StoredModule, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in tensors.items():
            begin = self._file.tell()
            begin += -begin % mmap.PAGESIZE
            data = tensor.contiguous().view(-1).view(torch.uint8).numpy().data
            self._file.seek(begin)
            self._write(data)
            entry.tensors[name] = StoredTensor(
                begin=begin, dtype=_name(tensor.dtype), shape=list(tensor.shape), digest=_ends(data)
            )
        self._modules[module] = entry

    def finish(self) -> None:
        modules = {name: asdict(entry) for name, entry in self._modules.items()}
        text = json.dumps(modules).encode()
        self._write(memoryview(text + hashlib.sha256(text).digest() + len(text).to_bytes(8, "little") + FORMAT))
        os.fsync(self._file.fileno())
        self._file.close()
        self._scratch.replace(self._path)

    def discard(self) -> None:
        """Leaves nothing of an unfinished file; safe to call after :meth:`finish`."""
        self._file.close()
        self._scratch.unlink(missing_ok=True)

    def _write(self, data: memoryview) -> None:
        while data:
            data = data[self._file.write(data) :]


class PackedFile:
    """A written file, mapped to be read; raises :class:`Unusable` or ``OSError``."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            if size < _TRAILER:
                raise Unusable("is too short")
            self._mapping = mmap.mmap(opened.fileno(), size, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self._mapping.madvise(mmap.MADV_HUGEPAGE)
        digest, length, name = self._trailer(size)
        begin = size - _TRAILER - length
        if name != FORMAT or begin < 0:
            raise Unusable("was cut short or is of another format")
        text = self._mapping[begin : begin + length]
        if hashlib.sha256(text).digest() != digest:
            raise Unusable("has a damaged list of weights")
        self.modules = {name: _module(values) for name, values in json.loads(text).items()}

    def _trailer(self, size: int) -> tuple[bytes, int, bytes]:
        trailer = self._mapping[size - _TRAILER :]
        return trailer[:_DIGEST], int.from_bytes(trailer[_DIGEST : _DIGEST + 8], "little"), trailer[_DIGEST + 8 :]

    def tensors(self, module: str) -> dict[str, Tensor]:
        """The tensors of a module, where they lie."""
        return dict(self._tensors(self.modules[module]))

    def _tensors(self, entry: StoredModule) -> Iterator[tuple[str, Tensor]]:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The given buffer is not writable")
            for name, stored in entry.tensors.items():
                tensor = mapped_tensor(self._mapping, stored.begin, getattr(torch, stored.dtype), stored.shape)
                end = stored.begin + tensor.nbytes
                if _ends(memoryview(self._mapping)[stored.begin : end]) != stored.digest:
                    raise Unusable("has damaged weights")
                yield name, tensor


def _module(values: Mapping[str, Any]) -> StoredModule:
    tensors = {name: StoredTensor(**tensor) for name, tensor in values["tensors"].items()}
    return StoredModule(**{**values, "tensors": tensors})


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _ends(data: memoryview) -> str:
    digest = hashlib.sha256(data[:_END])
    digest.update(data[-_END:])
    return digest.hexdigest()
