"""Sleep: an engine that nobody needs gives its memory back and gets it again when it is woken.

Level 1 gives up the KV cache and moves the weights of an accelerator into the host's memory; on a CPU, where that is
the same memory, they stay where they are. Level 2 gives up the weights as well and reads them again on waking.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, UntypedStorage, nn

from ..layers.attention import attention_layers
from ..layers.context import build_context
from ..spi.errors import InvalidRequest
from ..spi.execution import Executor
from ..spi.protocols import KVPages, Model
from .kv_memory import in_large_pages
from .messages import SLEEP_LEVELS, SLEEP_TAGS
from .weights import load_model, return_freed_memory

if TYPE_CHECKING:
    from .runner import ModelRunner


class Sleep:
    """How deep an engine sleeps: ``level`` is 0 until :meth:`fall_asleep`, and again when everything is awake."""

    def __init__(self, executor: Executor) -> None:
        self.level = 0
        self._executor = executor
        self._asleep: set[str] = set()

    def fall_asleep(self, level: int) -> None:
        """Raises ``InvalidRequest`` for an unknown level, or another one than the engine sleeps at already."""
        if level not in SLEEP_LEVELS:
            raise InvalidRequest(f"level is {level}; give 1 or 2.", param="level")
        if self.level and self.level != level:
            raise InvalidRequest(f"The engine sleeps at level {self.level} already; wake it first.", param="level")
        if not self.level:
            self.level, self._asleep = level, set(SLEEP_TAGS)
            self._executor.call("sleep", level)

    def wake_up(self, tags: Sequence[str] | None = None) -> None:
        """Wakes the parts that ``tags`` name, or all; raises ``InvalidRequest`` for one that is unknown."""
        for tag in tags or ():
            if tag not in SLEEP_TAGS:
                raise InvalidRequest(
                    f"tags holds {tag!r}; give {' or '.join(SLEEP_TAGS)}, or leave it out.", param="tags"
                )
        for tag in SLEEP_TAGS:
            if tag in self._asleep and (not tags or tag in tags):
                self._executor.call("wake_up", tag)
                self._asleep.remove(tag)
        if not self._asleep:
            self.level = 0


class Sleeper:
    """The memory of one runner: what was given up, and where it can be had again.

    A storage that is emptied keeps its tensors and their views valid, so that whoever holds one need not be told.
    """

    def __init__(self, runner: ModelRunner) -> None:
        self._runner = runner
        self._pages: dict[int, KVPages] = {}
        self._sizes: list[tuple[UntypedStorage, int]] = []
        self._on_host: list[tuple[UntypedStorage, UntypedStorage]] = []

    @torch.inference_mode()
    def sleep(self, level: int) -> None:
        """Call when no step is under way."""
        layers = attention_layers(cast(nn.Module, self._runner.model))
        self._pages = {layer.index: layer.pages for layer in layers if hasattr(layer, "pages")}
        self._empty_pages()
        if level == 2:
            del self._runner.model
        elif self._runner.device.type != "cpu":
            self.stow_weights()
        gc.collect()
        return_freed_memory()
        if self._runner.device.type == "cuda":
            torch.cuda.empty_cache()

    @torch.inference_mode()
    def wake_up(self, tag: str) -> None:
        """Gets back what ``tag`` stands for; the KV cache comes back empty."""
        if tag == "kv_cache":
            for storage, size in self._sizes:
                storage.resize_(size)
                in_large_pages(storage)
            self._sizes = []
        elif hasattr(self._runner, "model"):
            self._fetch_weights()
        else:
            self._load_weights()

    def _empty_pages(self) -> None:
        pages = _storages(chain.from_iterable(self._pages.values()))
        self._sizes = [(storage, storage.nbytes()) for storage in pages]
        for storage, _ in self._sizes:
            storage.resize_(0)

    def stow_weights(self) -> None:
        """Moves every weight into the host's memory."""
        for storage in _storages(_weights(cast(nn.Module, self._runner.model))):
            if not storage.resizable():  # mapped from a file: the host lets go of such pages by itself
                continue
            self._on_host.append((storage, UntypedStorage(storage.nbytes()).copy_(storage, False)))
            storage.resize_(0)

    def _fetch_weights(self) -> None:
        while self._on_host:
            storage, copy = self._on_host[-1]
            storage.resize_(copy.nbytes())
            storage.copy_(copy, False)
            self._on_host.pop()

    def _load_weights(self) -> None:
        model = load_model(self._runner.plan, build_context(self._runner.plan))
        for layer in attention_layers(model):
            if layer.index in self._pages:
                layer.pages = self._pages[layer.index]
        self._runner.model = cast(Model, model)


def _weights(model: nn.Module) -> Iterator[Tensor]:
    """Parameters, buffers, and what layers have handed over to their operator."""
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():
        yield from _packed(getattr(module, "packed", None))


def _packed(weight: object) -> Iterator[Tensor]:
    """The tensors of a packed weight, and of those it is made of: experts are many of them."""
    for value in getattr(weight, "__dict__", {}).values():
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list):
            yield from chain.from_iterable(map(_packed, value))


def _storages(tensors: Iterable[Tensor]) -> list[UntypedStorage]:
    """The memory behind ``tensors``, each piece once."""
    found = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors if not tensor.is_meta}
    return [storage for storage in found.values() if storage.nbytes()]
