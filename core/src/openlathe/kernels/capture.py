"""Capturing a step: what it did to the device is kept, so that it can be done again without Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """A step that ran.

    Attributes:
        output: what it answered with.
        replay: runs it again on what its inputs, which keep their places, hold by then; the answer is valid until the
            next step is captured or replayed. None where the step cannot be captured.
        obstacle: then a clause for people that says why.
    """

    output: Tensor
    replay: Callable[[], Tensor] | None = None
    obstacle: str = ""


class CaptureOperator(Protocol):
    def __call__(self, step: Callable[[], Tensor]) -> Capture: ...


def capture(step: Callable[[], Tensor]) -> Capture:
    """Runs ``step`` once. Here nothing is kept of it; providers for a device keep the work it gave to the device.

    ``step`` must do the same work on the same memory whenever it is called: what may differ from step to step lies in
    tensors that are made before, and no Python value is read from them.
    """
    return Capture(output=step(), obstacle="no kernel is installed that captures steps")
