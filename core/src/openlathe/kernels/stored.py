"""Packed weights that can be written down and made again from what was written, so that a start need not pack them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self, runtime_checkable

from torch import Tensor


@runtime_checkable
class StoredWeight(Protocol):
    """What a packed weight may offer besides its calls; its class must be found under its module and name."""

    @classmethod
    def layout(cls) -> str:
        """All that the bytes depend on besides the weight: the arrangement, the library that made it, the CPU's kind.

        What another layout has written is packed again.
        """
        ...

    def stored(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Facts that JSON can hold, and the tensors [any shape, contiguous, on the CPU] that are its memory."""
        ...

    @classmethod
    def restored(cls, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        """The same weight on tensors that are not to be written to: they lie in a file, in the page cache."""
        ...
