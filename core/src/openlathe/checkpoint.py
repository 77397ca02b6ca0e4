"""Finding a model directory and checking it before anything is loaded; without torch."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from .config import EngineConfig
from .plugins.registry import Registry, described
from .plugins.resolve import resolve
from .spi.errors import CheckpointError, ConfigError, ProviderNotFound
from .spi.protocols import Provider
from .spi.specs import CheckpointSpec

T = TypeVar("T")
_WORDS: dict[type, str] = {dict: "a JSON object", list: "a list"}
#: Fields of config.json with fields or entries of their own that are read for every family.
_CONTAINERS = {
    "architectures": list,
    "classifier_from_token": list,
    "id2label": dict,
    "matryoshka_dimensions": list,
    "quantization_config": dict,
    "rope_parameters": dict,
    "rope_scaling": dict,
    "sentence_transformers": dict,
    "text_config": dict,
}
INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"
#: Types that weights may be computed in, by their names in safetensors files.
FLOATS = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
_METADATA_FILES = ["*.json", "*.txt", "*.jinja", "*.model", "*.tiktoken"]
_IGNORED_FILES = ["original/*", "onnx/*", "openvino/*", "consolidated*"]


@dataclass(frozen=True, kw_only=True)
class WeightFacts:
    """What the headers of a checkpoint's safetensors files say: their files, tensors and bytes of tensor data."""

    files: tuple[Path, ...]
    tensors: int
    num_bytes: int


def locate(model: str, config: EngineConfig, registry: Registry, *, metadata_only: bool = False) -> Path:
    """The directory of ``model``: a directory, the name of a bundled checkpoint, or a hub id, which is downloaded.

    ``metadata_only`` leaves a hub model's weights where they are. Raises ``CheckpointError``.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return _checked(path, model)
    if path.exists():
        raise CheckpointError(f"{model} is a file; give the directory of a checkpoint (config.json and *.safetensors).")
    if (provider := bundled(model, registry)) is not None:
        return _checked(resolve(provider), model)
    if not _HUB_ID.fullmatch(model) or model.startswith("."):
        raise CheckpointError(f"{model} does not exist; give a directory, a bundled checkpoint or a hub id (org/name).")
    files = _METADATA_FILES if metadata_only else [*_METADATA_FILES, "*.safetensors"]
    return _checked(download(model, config, files), model)


def bundled(model: str, registry: Registry) -> Provider | None:
    """The installed plugin that brings ``model``, unless a directory of that name is meant or nobody does."""
    if Path(model).expanduser().is_dir():
        return None
    try:
        return registry.get("checkpoint", model)
    except ProviderNotFound:
        return None


def with_model(config: EngineConfig, registry: Registry) -> EngineConfig:
    """``config``, with the bundled checkpoint that asks to be served where no model is named.

    Raises ``ConfigError`` where there is none, or more than one.
    """
    if config.model is not None:
        return config
    offered = [item for item in registry.providers("checkpoint") if cast(CheckpointSpec, item.spec).default]
    if len(offered) == 1:
        return replace(config, model=offered[0].spec.name)
    listed = " and ".join(f"{item.spec.name} by {described(item)}" for item in offered)
    reason = f"; {listed} are there to be served without a name" if offered else ""
    raise ConfigError(f"No model was given{reason}: name a directory, a bundled checkpoint or a hub id.")


def read_config(path: str | Path, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """config.json of a checkpoint, some of its fields replaced, with the dtype of its weights where it names none."""
    config = {**read_json(_checked(Path(path), str(path)) / "config.json"), **(overrides or {})}
    for name, kind in _CONTAINERS.items():
        value = config.get(name)
        if value is not None and not isinstance(value, kind):
            raise CheckpointError(f"config.json gives {name} as {value!r}; it must be {_WORDS[kind]}.")
    if not config.get("architectures"):
        raise CheckpointError(f"{Path(path) / 'config.json'} names no architectures, so its model cannot be told.")
    parts = (config, config.get("text_config") or {})
    if not any(part.get("dtype") or part.get("torch_dtype") for part in parts) and (dtype := _stored_dtype(Path(path))):
        config["dtype"] = dtype
    return config


def read_json(path: Path) -> dict[str, Any]:
    """The object in ``path``; empty where there is no such file."""
    return _read(path, dict)


def read_list(path: Path) -> list[Any]:
    """The list in ``path``; empty where there is no such file."""
    return _read(path, list)


def _read(path: Path, kind: type[T]) -> T:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return kind()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(content, kind):
        raise CheckpointError(f"{path} holds {type(content).__name__} where {_WORDS[kind]} is expected.")
    return content


def token_ids(path: str | Path, tokens: Iterable[str]) -> list[int]:
    """The ids of ``tokens`` by the checkpoint's tokenizer.json; raises ``CheckpointError`` for one it has not."""
    file = Path(path) / "tokenizer.json"
    tokenizer = read_json(file)
    ids: dict[str, int] = {**(tokenizer.get("model") or {}).get("vocab", {})}
    ids |= {token["content"]: token["id"] for token in tokenizer.get("added_tokens") or []}
    for token in tokens:
        if not isinstance(token, str) or token not in ids:
            raise CheckpointError(f"config.json speaks of the token {token!r}, which {file} does not have.")
    return [ids[token] for token in tokens]


def check_weights(path: str | Path) -> WeightFacts:
    """Reads the header of every safetensors file and compares it with the file's size and with the index.

    Raises ``CheckpointError`` for a file that is missing, cut short or damaged and for an index that names a tensor
    its file does not hold.
    """
    path = Path(path)
    files = _weight_files(path)
    if not files:
        raise CheckpointError(f"{path} holds no *.safetensors files; other formats of weights are not read.")
    headers = {file.name: read_header(file) for file in files}
    for tensor, name in _weight_map(path / INDEX).items():
        if tensor not in headers[name]:
            raise CheckpointError(f"{path / INDEX} places the tensor {tensor} in {name}, which does not hold it.")
    sizes = [end - begin for header in headers.values() for begin, end in _offsets(header.values())]
    return WeightFacts(files=tuple(files), tensors=len(sizes), num_bytes=sum(sizes))


def read_header(file: Path) -> dict[str, dict[str, Any]]:
    """Tensor name -> dtype, shape and data_offsets, of one safetensors file whose size agrees with them."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length)) if 2 <= length <= size - 8 else None
    except FileNotFoundError:
        raise CheckpointError(f"{file} is missing.") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"The header of {file} cannot be read: {error}.") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{file} is no safetensors file or was cut short; download it again.")
    header.pop("__metadata__", None)
    try:
        wanted = 8 + length + max((end for _, end in _offsets(header.values())), default=0)
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"The header of {file} is damaged; download it again.") from None
    if size != wanted:
        raise CheckpointError(f"{file} has {size} bytes where its header promises {wanted}; download it again.")
    return header


def data_start(file: Path, header: Mapping[str, Mapping[str, Any]]) -> int:
    """The byte of a file from which the ``data_offsets`` of its :func:`read_header` count."""
    return file.stat().st_size - max((end for _, end in _offsets(header.values())), default=0)


def _stored_dtype(path: Path) -> str | None:
    """The type that most of the weights are in, of those that are not packed; None where there are no weights."""
    sizes: Counter[str] = Counter()
    for entry in (entry for file in _weight_files(path) for entry in read_header(file).values()):
        if entry["dtype"] in FLOATS:
            begin, end = entry["data_offsets"]
            sizes[FLOATS[entry["dtype"]]] += end - begin
    return max(sizes, key=lambda dtype: sizes[dtype], default=None)


def _weight_files(path: Path) -> list[Path]:
    """Those of the index, else the one that holds everything: others beside it are the same weights or no part of them,
    such as an adapter's. Without either of these, all there are."""
    if named := set(_weight_map(path / INDEX).values()):
        return [path / name for name in sorted(named)]
    whole = path / WHOLE
    return [whole] if whole.is_file() else sorted(path.glob("*.safetensors"))


def _offsets(entries: Iterable[Mapping[str, Any]]) -> Iterable[tuple[int, int]]:
    for entry in entries:
        begin, end = entry["data_offsets"]
        yield begin, end


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor -> file; empty where there is no index."""
    if not index.exists():
        return {}
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map.")
    for name in set(weight_map.values()):
        if not isinstance(name, str) or Path(name).name != name:
            raise CheckpointError(f"{index} names the file {name!r}, which is not a file of the checkpoint.")
    return weight_map


def _checked(path: Path, model: str) -> Path:
    if not (path / "config.json").is_file():
        raise CheckpointError(f"{model} has no config.json, so it is no checkpoint.")
    return path


def download(model: str, config: EngineConfig, files: list[str]) -> Path:
    """The directory that has the ``files`` (patterns) of a hub model; raises ``CheckpointError`` with the reason."""
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(
            snapshot_download(
                model,
                revision=config.revision,
                cache_dir=config.download_dir,
                token=config.hf_token,
                allow_patterns=files,
                ignore_patterns=_IGNORED_FILES,
            )
        )
    except errors.GatedRepoError:
        reason = "its owner must grant you access first, and --hf-token or HF_TOKEN must say who you are"
    except errors.RevisionNotFoundError:
        reason = f"it has no revision {config.revision!r}"
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        reason = "it is neither a directory nor a bundled checkpoint, and the hub does not know it"
    except errors.LocalEntryNotFoundError:
        reason = "the hub cannot be reached and nothing of it is in the cache"
    except Exception as error:  # the hub's errors share no base class with those of its HTTP client
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
    raise CheckpointError(f"{model} cannot be downloaded: {reason}.")
