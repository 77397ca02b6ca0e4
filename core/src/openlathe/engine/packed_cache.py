"""Packed weights on disk: written when a model is first loaded, mapped whenever it is loaded again.

A mapped weight is no memory of the process's own: it lies in the page cache, for all who serve the model.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from ..checkpoint import check_weights, data_start, read_header
from ..kernels.stored import StoredWeight
from ..plugins.resolve import load
from ..spi.errors import ConfigError
from .packed_file import FORMAT, PackedFile, PackedWriter, StoredModule, Unusable

if TYPE_CHECKING:
    from ..plugins.plan import Choice, Plan

#: A tensor is told by this many pieces of this many bytes, spread evenly over it.
_SAMPLES, _SAMPLE_BYTES = 8, 512
logger = logging.getLogger(__name__)


class PackedCache:
    """The file of one plan's weights; use as a context, which leaves no half-written file behind."""

    def __init__(self, plan: Plan) -> None:
        self._packages = {choice.target.partition(".")[0].partition(":")[0] for choice in _choices(plan).values()}
        self.path = Path(plan.config.packed_cache_dir or "").expanduser() / f"{key_of(plan)}.packed"
        self._writer: PackedWriter | None = None

    def restore(self, model: nn.Module) -> set[nn.Module] | None:
        """Gives modules their packed weights and tells which; None where there is no usable file yet."""
        try:
            file = PackedFile(self.path)
            found = {name: self._weight(file, name, entry) for name, entry in file.modules.items()}
            modules = {name: model.get_submodule(name) for name in found}
        except OSError:  # none, or none that can be read: what follows tries to write one and says why it cannot
            return None
        except (Unusable, AttributeError, LookupError, TypeError, ValueError) as error:
            logger.warning(
                "%s %s; it is written anew.", self.path, error if isinstance(error, Unusable) else "is stale"
            )
            return None
        if not found:
            logger.info("None of this model's packed weights can be kept: their operators have no form for it.")
        for name, weight in found.items():
            modules[name].restore(weight, gated=file.modules[name].gated)  # type: ignore[operator]
        return set(modules.values())

    def _weight(self, file: PackedFile, name: str, entry: StoredModule) -> StoredWeight:
        package = entry.target.partition(".")[0]
        if package not in self._packages:
            raise Unusable(f"has weights of {package}, which this engine does not use")
        kind: type[StoredWeight] = load(entry.target)
        if kind.layout() != entry.layout:
            raise Unusable("has weights in another layout")
        return kind.restored(entry.facts, file.tensors(name))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Inside, :meth:`keep` writes; at the end there is a whole file, or none. Raises ``ConfigError``."""
        try:
            self._writer = PackedWriter(self.path)
            try:
                yield
                self._writer.finish()
            finally:
                self._writer.discard()
        except OSError as error:
            raise ConfigError(
                f"The packed weights cannot be kept in {self.path.parent}: {error.strerror or error}; give "
                "--packed-cache-dir a directory with room, or leave it out."
            ) from None
        finally:
            self._writer = None

    def keep(self, name: str, module: nn.Module) -> None:
        """Writes the packed weight of ``module`` and takes it from there, where it is one that can be written."""
        weight = getattr(module, "packed", None)
        if self._writer is None or not hasattr(module, "restore") or not isinstance(weight, StoredWeight):
            return
        facts, tensors = weight.stored()
        kind, gated = type(weight), getattr(module, "gate", None) is None
        target = f"{kind.__module__}:{kind.__qualname__}"
        entry = StoredModule(target=target, layout=kind.layout(), gated=gated, facts=facts)
        self._writer.add(name, entry, tensors)
        module.packed = None  # type: ignore[assignment]


def packed_cache(plan: Plan) -> PackedCache | None:
    """The cache of a plan that asks for one and can have it; the log says where it cannot."""
    if plan.config.packed_cache_dir is None:
        return None
    if plan.config.load_format == "dummy" or plan.device.type != "cpu":
        what = "random weights" if plan.config.load_format == "dummy" else f"weights on {plan.device.type}"
        logger.info("--packed-cache-dir is without effect: %s are not kept.", what)
        return None
    return PackedCache(plan)


def key_of(plan: Plan) -> str:
    """Of all that decides what is packed: the checkpoint's content and who builds, quantises and multiplies it."""
    chosen = {slot: [c.distribution, c.version, c.target, c.options] for slot, c in _choices(plan).items()}
    facts = {"format": FORMAT.decode(), "core": plan.openlathe, "config": plan.hf_config, "dtype": plan.dtype}
    digest = hashlib.sha256(json.dumps({**facts, "chosen": chosen}, sort_keys=True, default=str).encode())
    for file in check_weights(plan.model_path).files:
        digest.update(_fingerprint(file))
    return digest.hexdigest()[:32]


def _choices(plan: Plan) -> dict[str, Choice]:
    """The slots that have a say in what a packed weight is."""
    return {
        slot: choice
        for slot, choice in plan.choices.items()
        if slot in ("model", "linear", "unpack") or slot.startswith("kernel.")
    }


def _fingerprint(file: Path) -> bytes:
    """A digest of the header of a safetensors file and of 4 KiB of each of its tensors."""
    header = read_header(file)
    data = data_start(file, header)
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for entry in header.values():
            begin, end = entry["data_offsets"]
            stride = max((end - begin) // _SAMPLES, _SAMPLE_BYTES)
            for at in range(begin, end, stride):
                digest.update(content[data + at : data + min(at + _SAMPLE_BYTES, end)])
    return digest.digest()
