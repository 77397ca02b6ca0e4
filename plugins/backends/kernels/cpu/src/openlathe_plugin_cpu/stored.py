"""Native weights written down as they lie, for :class:`openlathe.kernels.stored.StoredWeight`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from torch import Tensor

from .loading import native


class Stored(ABC):
    """A weight that is its ``FACTS``, attributes that JSON can hold, and its ``MEMORY``, tensors or None; the rest is
    made of these by ``ready``."""

    FACTS: ClassVar[tuple[str, ...]]
    MEMORY: ClassVar[tuple[str, ...]]

    @abstractmethod
    def ready(self) -> None:
        """Makes the rest, when facts and memory are there."""

    @classmethod
    def layout(cls) -> str:
        """The instruction set with the fingerprint of the sources: others may lay out what they pack in another way."""
        return native().path.stem

    def stored(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        tensors = {name: getattr(self, name) for name in self.MEMORY}
        facts = {name: getattr(self, name) for name in self.FACTS}
        return facts, {name: tensor for name, tensor in tensors.items() if tensor is not None}

    @classmethod
    def restored(cls, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        weight = cls.__new__(cls)
        for name in cls.FACTS:
            setattr(weight, name, facts[name])
        for name in cls.MEMORY:
            setattr(weight, name, tensors.get(name))
        weight.ready()
        return weight
