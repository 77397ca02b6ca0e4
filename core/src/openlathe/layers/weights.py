"""How checkpoint tensors find their parameters: names as data, and what a layer does when its tensors arrive.

Parameters begin on the ``meta`` device and take memory when their first tensor arrives, so that a model is never in
memory twice. A layer may bring methods of its own, or leave the ones here to act on its plain parameters:

- ``bind(prefix)``: called once, before anything else, with the module's name in the model;
- ``weight_parts() -> {(parameter, shard): shape}``: the tensors it waits for;
- ``load_weight(parameter, shard, tensor)``: takes one of them;
- ``pack()``: called once when it has them all;
- ``restore(packed, gated)``: called instead of the last two, with the ``packed`` that an earlier ``pack()`` has left
  and whether it had no ``gate`` left besides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

#: A tensor a layer waits for: the parameter's name and, inside a fused parameter, the shard.
Part = tuple[str, int | None]

#: Types that may be converted to each other when they are loaded.
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, kw_only=True)
class WeightMap:
    """The names of a checkpoint against those of the model, where they differ.

    Attributes:
        fused: module -> the checkpoint's modules that are its shards, in order: ``{"qkv_proj": ("q_proj", ...)}``. A
            checkpoint may also hold the shards as one tensor, under the module's own name.
        renamed: (regular expression, replacement) pairs applied in order to a checkpoint's name.
        aliases: a part of the checkpoint's dotted names -> what it is called here: ``{"block_sparse_moe": "mlp"}``.
        skipped: regular expressions of names that are not needed, such as tables that are computed here.
        transposed: regular expressions of names of matrices that the checkpoint keeps as [in, out].
        tied: parameter -> the parameter it shares when the configuration ties them; a checkpoint may hold both.
    """

    fused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    renamed: tuple[tuple[str, str], ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    skipped: tuple[str, ...] = ()
    transposed: tuple[str, ...] = ()
    tied: Mapping[str, str] = field(default_factory=dict)

    def is_skipped(self, name: str) -> bool:
        return any(re.search(pattern, name) for pattern in self.skipped)

    def turned(self, name: str, tensor: Tensor) -> Tensor:
        """The tensor called ``name``, as a layer expects it: [out, in]."""
        return tensor.T if any(re.search(pattern, name) for pattern in self.transposed) else tensor

    def place(self, name: str) -> tuple[str, int | None]:
        """The checkpoint's name -> (the model's parameter, shard); the shard is None outside fused parameters."""
        for pattern, replacement in self.renamed:
            name = re.sub(pattern, replacement, name)
        name = _translated(name, self.aliases)
        path, _, parameter = name.rpartition(".")
        parent, _, leaf = path.rpartition(".")
        for module, shards in self.fused.items():
            if leaf in shards:
                return ".".join(filter(None, (parent, module, parameter))), shards.index(leaf)
        return name, None

    def source(self, parameter: str, shard: int | None) -> str:
        """The name a checkpoint would give this part (before ``renamed``), for messages."""
        path, _, leaf = parameter.rpartition(".")
        parent, _, module = path.rpartition(".")
        if shard is not None and module in self.fused:
            parameter = ".".join(filter(None, (parent, self.fused[module][shard], leaf)))
        return _translated(parameter, {own: theirs for theirs, own in self.aliases.items()})


def _translated(name: str, words: Mapping[str, str]) -> str:
    return ".".join(words.get(word, word) for word in name.split("."))


#: Bytes from which on a tensor may stay where it lies; small ones are better off together.
LARGE = 64 << 10


class Misfit(ValueError):
    """A tensor does not fit its parameter; the message continues the sentence "The tensor NAME ..."."""


def placeholder(*shape: int, dtype: torch.dtype) -> nn.Parameter:
    """A parameter without memory, until :func:`materialise` gives it some."""
    return nn.Parameter(torch.empty(shape, dtype=dtype, device="meta"), requires_grad=False)


def materialise(module: nn.Module, name: str, device: torch.device) -> Tensor:
    """Parameter ``name`` of ``module``, given memory on ``device`` if it has none yet; its content is undefined."""
    parameter = getattr(module, name)
    if parameter.is_meta:
        # empty_like would do, but of a meta tensor it imports sympy: 0.8 seconds.
        memory = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
        parameter = nn.Parameter(memory, requires_grad=False)
        setattr(module, name, parameter)
    return parameter.data


def bind(module: nn.Module, prefix: str) -> None:
    """Tells ``module`` its name."""
    own = getattr(module, "bind", None)
    if own is not None:
        own(prefix)


def weight_parts(module: nn.Module) -> dict[Part, tuple[int, ...]]:
    """The tensors ``module`` itself waits for, with their shapes."""
    own = getattr(module, "weight_parts", None)
    if own is not None:
        return own()
    return {(name, None): tuple(item.shape) for name, item in module.named_parameters(recurse=False)}


def load_weight(module: nn.Module, part: Part, tensor: Tensor, device: torch.device) -> None:
    """Puts ``tensor`` into its place, converting its dtype; raises :class:`Misfit`."""
    own = getattr(module, "load_weight", None)
    if own is not None:
        own(*part, tensor)
    else:
        place(module, part[0], tensor, device)


def place(module: nn.Module, name: str, tensor: Tensor, device: torch.device) -> None:
    """Makes ``tensor`` parameter ``name``: itself where it is large and as it should be, such as mapped from a file of
    the model's dtype, else a copy; raises :class:`Misfit`."""
    parameter = getattr(module, name)
    check_shape(tensor, parameter.shape)
    fits = tensor.dtype == parameter.dtype and tensor.device.type == device.type and tensor.is_contiguous()
    if fits and tensor.nbytes >= LARGE:
        setattr(module, name, nn.Parameter(tensor, requires_grad=False))
    else:
        copy_exact(materialise(module, name, device), tensor)


def check_shape(tensor: Tensor, shape: Sequence[int]) -> None:
    """Raises :class:`Misfit` where ``tensor`` has another."""
    if tuple(tensor.shape) != tuple(shape):
        raise Misfit(f"has shape {list(tensor.shape)} where the configuration asks for {list(shape)}")


def copy_exact(target: Tensor, tensor: Tensor) -> None:
    """Copies between float types, without broadcasting; raises :class:`Misfit`."""
    check_shape(tensor, target.shape)
    if target.dtype != tensor.dtype and tensor.dtype not in FLOATS:
        raise Misfit(f"is of type {str(tensor.dtype).removeprefix('torch.')}, which needs a quantization plugin")
    target.copy_(tensor)


def pack(module: nn.Module) -> None:
    """Lets ``module`` rearrange what it has loaded."""
    own = getattr(module, "pack", None)
    if own is not None:
        own()
