"""What of a model's files the system holds in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_PIECE = 1 << 24


def files_of(folder: str | Path) -> list[Path]:
    """Every file of a checkpoint, links followed: a hub's cache is made of them."""
    return sorted({path.resolve() for path in Path(folder).rglob("*") if path.is_file()})


def forget(files: list[Path]) -> None:
    """Asks the system to drop their pages, as ``posix_fadvise`` does for those that nobody else has mapped."""
    for file in _opened(files):
        os.fsync(file)  # pages that were never written to disk cannot be dropped
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)


def read(files: list[Path]) -> None:
    """Brings them all into memory, as far as there is room."""
    for file in _opened(files):
        while os.read(file, _PIECE):
            pass


def _opened(files: list[Path]) -> Iterator[int]:
    for path in files:
        file = os.open(path, os.O_RDONLY)
        try:
            yield file
        finally:
            os.close(file)
