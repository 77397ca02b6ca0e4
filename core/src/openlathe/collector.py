"""Python's garbage collector while a process starts: what is made then stays, and looking through it takes time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Collects nothing inside, and leaves what was made there out of later collections.

    Importing torch makes some 400,000 objects, which are otherwise looked through a dozen times meanwhile and again
    whenever a server's garbage is collected.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
