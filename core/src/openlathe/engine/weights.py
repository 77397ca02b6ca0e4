"""From the files of a checkpoint to a model that is ready to run.

Every tensor is accounted for: each is read once, from its memory-mapped file, and one that is missing, left over or of
the wrong shape is refused by name. A layer is packed as soon as it is complete, from the file itself where a tensor is
a whole weight, so that a weight and its packed form are in memory together for one layer at a time.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from itertools import chain, count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..checkpoint import check_weights, read_header
from ..layers.context import BuildContext
from ..layers.heads import LMHead
from ..layers.weights import Misfit, Part, WeightMap, bind, check_shape, load_weight, pack, weight_parts
from ..spi import CheckpointError, Unpacker
from .mapped import mapped_tensors
from .packed_cache import PackedCache, packed_cache

if TYPE_CHECKING:
    from ..plugins.plan import Plan

Progress = Callable[[int, int], None]

#: Rows of a tied tensor's spare copy that are compared with the tensor in use.
SPARE_ROWS = 256

logger = logging.getLogger(__name__)
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def load_model(plan: Plan, context: BuildContext, progress: Progress | None = None) -> nn.Module:
    """Builds the plan's model and fills it: from its files or, with load format ``dummy``, with random numbers.

    ``progress(done, total)`` is called after each tensor, in bytes. Raises ``CheckpointError``.
    """
    model: nn.Module = plan.resolve("model")(plan.model_config(), context)
    with torch.no_grad():
        if (own := getattr(model, "load_checkpoint", None)) is not None:
            _load_itself(own, plan, progress or (lambda done, total: None))
            return model.eval().requires_grad_(False)
        if plan.pooling is not None and not hasattr(model, "head"):
            _leave_out_heads(model)
        ledger = _Ledger(model, context)
        cache = packed_cache(plan)
        if cache is not None:
            _load_cached(ledger, plan, cache, progress or (lambda done, total: None))
        elif plan.config.load_format == "dummy":
            _load_dummy(ledger, context, plan.config.seed)
        else:
            _load_files(ledger, plan, progress or (lambda done, total: None))
    return_freed_memory()
    return model.eval().requires_grad_(False)


def _leave_out_heads(model: Any) -> None:
    """Of a model that could generate only hidden states are asked; checkpoints that are made for that have no head."""
    heads = [name for name, module in model.named_children() if isinstance(module, LMHead)]
    weights: WeightMap = getattr(model, "weights", WeightMap())
    model.weights = replace(weights, skipped=(*weights.skipped, *(rf"(^|\.){name}\." for name in heads)))
    for name in heads:
        setattr(model, name, nn.Identity())


def weight_facts(model: nn.Module) -> dict[str, int]:
    """Bytes the weights take: ``weight_bytes``, and apart from them ``packed_head_bytes`` of a repacked tied head."""
    tensors = {item.data_ptr(): item.nbytes for item in model.parameters() if not item.is_meta}
    head_bytes = 0
    for module in model.modules():
        packed = getattr(module, "packed", None)
        if packed is None:
            continue
        if getattr(packed, "weight", None) is not None:
            tensors[packed.weight.data_ptr()] = packed.nbytes
        elif _is_tied(module):
            head_bytes += packed.nbytes
        else:
            tensors[id(packed)] = packed.nbytes
    return {"weight_bytes": sum(tensors.values()), "packed_head_bytes": head_bytes}


def _is_tied(module: nn.Module) -> bool:
    """Whether its weight is another layer's, which may arrive later than what it has of its own."""
    return isinstance(module, LMHead) and module.is_tied


class _Ledger:
    """Which tensors a model still waits for; packs each layer when its last one has come."""

    def __init__(self, model: nn.Module, context: BuildContext) -> None:
        self.map: WeightMap = getattr(model, "weights", WeightMap())
        self.name = type(model).__name__
        self.context = context
        self.model = model
        self.awaited: dict[Part, tuple[nn.Module, Part, tuple[int, ...]]] = {}
        self.outstanding: dict[nn.Module, int] = {}
        self.taken: set[Part] = set()
        self.given: list[str] = []
        self.spares: dict[str, Tensor] = {}
        self.restored: set[str] = set()
        self.keep: Callable[[str, nn.Module], None] = lambda path, module: None
        self.paths = {module: path for path, module in model.named_modules()}
        for module, path in self.paths.items():
            bind(module, path)
            parts = weight_parts(module)
            self.outstanding[module] = len(parts)
            for part, shape in parts.items():
                self.awaited[f"{path}.{part[0]}".lstrip("."), part[1]] = module, part, shape

    def restore(self, modules: Collection[nn.Module]) -> None:
        """Waits no more for what ``modules`` have got from elsewhere."""
        for key, (module, _, _) in list(self.awaited.items()):
            if module in modules:
                del self.awaited[key]
                self.restored.add(key[0])
        for module in modules:
            self.outstanding[module] = -1

    def wants(self, name: str) -> bool:
        """Whether the tensor called ``name`` in the checkpoint is still to be read."""
        return not self.map.is_skipped(name) and self.map.place(name)[0] not in self.restored

    def take(self, name: str, tensor: Tensor) -> None:
        """Puts one tensor, called ``name`` in the checkpoint, where it belongs."""
        if not self.wants(name):
            return
        self.given.append(name)
        key = self.map.place(name)
        keys = self._awaited_shards(key)
        if not keys:
            self._keep_spare(name, key, tensor)
            return
        try:
            for part, piece in self._cut(keys, self.map.turned(name, tensor)):
                self._fill(part, piece)
        except Misfit as misfit:
            raise CheckpointError(
                f"The tensor {name} {misfit}; these weights and this config.json do not belong together."
            ) from None

    def _awaited_shards(self, key: Part) -> list[Part]:
        """What a tensor at this place may fill: the part itself or, where it stands for all of them, every shard."""
        if key in self.awaited:
            return [key]
        shards = ((key[0], shard) for shard in count()) if key[1] is None else ()
        return list(takewhile(self.awaited.__contains__, shards))

    def _cut(self, keys: list[Part], tensor: Tensor) -> list[tuple[Part, Tensor]]:
        """The rows of ``tensor`` that belong to each of ``keys``."""
        if len(keys) == 1:
            return [(keys[0], tensor)]
        shapes = [self.awaited[key][2] for key in keys]
        rows = [shape[0] for shape in shapes]
        check_shape(tensor, (sum(rows), *shapes[0][1:]))
        return list(zip(keys, tensor.split(rows), strict=True))

    def close(self) -> None:
        """Refuses a checkpoint that left something out and packs what shares its weight with another layer."""
        if self.awaited:
            missing, *others = self.awaited
            more = f" and {len(others)} more" if others else ""
            raise CheckpointError(
                f"The checkpoint lacks the tensor {self._name(missing)}{more}, which {self.name} needs; download it "
                "again."
            )
        for module, awaited in self.outstanding.items():
            if awaited == 0:
                self._pack(module)
        self._compare_spares()

    def _name(self, key: Part) -> str:
        """What this checkpoint would call a part: as :class:`WeightMap` says, with the prefix that others have, or
        without the one that they lack."""
        name = self.map.source(*key)
        for given in self.given:
            own = self.map.source(*self.map.place(given))
            if given != own and given.endswith(own):
                return given.removesuffix(own) + name
            if given != own and own.endswith(given):
                return name.removeprefix(own.removesuffix(given))
        return name

    def fill(self, make: Callable[[str, tuple[int, ...]], Tensor]) -> None:
        """Fills every part with what ``make(parameter, shape)`` answers."""
        for key, (_, _, shape) in list(self.awaited.items()):
            self._fill(key, make(key[0], shape))

    def _fill(self, key: Part, tensor: Tensor) -> None:
        module, part, _ = self.awaited[key]
        load_weight(module, part, tensor, self.context.device)
        del self.awaited[key]
        self.taken.add(key)
        self.outstanding[module] -= 1
        if self.outstanding[module] == 0 and not _is_tied(module):
            self._pack(module)

    def _pack(self, module: nn.Module) -> None:
        self.outstanding[module] = -1
        pack(module)
        self.keep(self.paths[module], module)

    def _keep_spare(self, name: str, key: Part, tensor: Tensor) -> None:
        """A tensor nobody waits for may only be the spare copy of a tied one, to be compared at the end."""
        if key in self.taken:
            raise CheckpointError(f"The checkpoint holds the tensor {name} more than once.")
        if key[0] not in self.map.tied:
            raise CheckpointError(
                f"The checkpoint holds the tensor {name}, for which {self.name} has no place; these weights and this "
                "config.json do not belong together."
            )
        self.spares[name] = tensor

    def _compare_spares(self) -> None:
        """Warns of a configuration that ties what the checkpoint keeps apart; a few rows tell."""
        for name, tensor in self.spares.items():
            used = self.map.tied[self.map.place(name)[0]]
            rows = self.model.get_parameter(used)[:SPARE_ROWS]
            if not torch.equal(rows, tensor[:SPARE_ROWS].to(rows)):
                logger.warning("The checkpoint's %s is not its %s, which config.json puts in its place.", name, used)


def return_freed_memory() -> None:
    """Weights that were packed leave holes that later ones do not fit; glibc keeps them unless it is told."""
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)


def _unpacker(plan: Plan) -> Unpacker | None:
    """Who turns this checkpoint's packed tensors into plain ones, where somebody has to."""
    if "unpack" not in plan.choices:
        return None
    return plan.resolve("unpack")(plan.hf_config["quantization_config"])


def _load_itself(load: Callable[[Path | None], None], plan: Plan, progress: Progress) -> None:
    """Lets a model read files that are known to be whole, or with load format ``dummy`` do without."""
    if plan.config.load_format == "dummy":
        load(None)
        return
    facts = check_weights(plan.model_path)
    load(Path(plan.model_path))
    progress(facts.num_bytes, facts.num_bytes)


def _load_cached(ledger: _Ledger, plan: Plan, cache: PackedCache, progress: Progress) -> None:
    """From packed weights as far as there are any; where there are none, those that are made are kept and used."""
    restored = cache.restore(ledger.model)
    if restored is not None:
        ledger.restore(restored)
        _load_files(ledger, plan, progress)
        return
    with cache.writing():
        ledger.keep = cache.keep
        _load_files(ledger, plan, progress)
    cache.restore(ledger.model)


def _load_files(ledger: _Ledger, plan: Plan, progress: Progress) -> None:
    facts, unpacker = check_weights(plan.model_path), _unpacker(plan)
    tensors: Iterator[tuple[str, Tensor]] = chain.from_iterable(map(mapped_tensors, facts.files))
    if unpacker is not None:
        names = [name for file in facts.files for name in read_header(file)]
        tensors = _unpacked(tensors, names, unpacker, ledger)
    done = 0
    for name, tensor in tensors:
        ledger.take(name, tensor)
        done += tensor.nbytes
        del tensor  # or it would be in memory together with the next one
        progress(min(done, facts.num_bytes), facts.num_bytes)
    ledger.close()


def _unpacked(
    tensors: Iterable[tuple[str, Tensor]], names: Collection[str], unpacker: Unpacker, ledger: _Ledger
) -> Iterator[tuple[str, Tensor]]:
    """Plain tensors as they are, packed ones as soon as all their parts were seen; parts stay memory-mapped."""
    groups = unpacker.groups(names)
    whole = {part: name for name, parts in groups.items() for part in parts.values()}
    seen: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for part, tensor in tensors:
        name = whole.get(part)
        if name is None:
            yield part, tensor
            continue
        if not ledger.wants(name):
            continue
        seen[name][part] = tensor
        if len(seen[name]) == len(groups[name]):
            found = seen.pop(name)
            try:
                plain = unpacker.unpack(
                    {role: found[part] for role, part in groups[name].items()}, ledger.context.dtype
                )
            except CheckpointError as error:
                raise CheckpointError(f"The tensor {name} cannot be unpacked: {error}") from None
            yield name, plain


def _load_dummy(ledger: _Ledger, context: BuildContext, seed: int) -> None:
    """Matrices from a normal distribution of deviation 0.02, norms one, biases zero."""
    generator = torch.Generator(context.device).manual_seed(seed)

    def make(parameter: str, shape: tuple[int, ...]) -> Tensor:
        tensor = torch.empty(shape, dtype=context.dtype, device=context.device)
        if len(shape) > 1:
            return tensor.normal_(0.0, 0.02, generator=generator)
        return tensor.fill_(1.0 if parameter.endswith("weight") else 0.0)

    ledger.fill(make)
    ledger.close()
