"""The plan: what a configuration and the installed plugins come to for one checkpoint, as data, before a byte of
weights is read. Worker processes are handed the plan and only resolve it; they never discover plugins themselves.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..checkpoint import locate, read_config, token_ids
from ..config import EngineConfig
from ..devices import detect, torch_installed
from ..pooling import PoolingPlan, longest_text, plan_pooling, unused_prompts
from ..spi import kv
from ..spi.errors import CheckpointError, ConfigError, PluginError
from ..spi.kv import EncoderOnly, KVSpec, SharedWith
from ..spi.protocols import ModelConfig
from ..spi.queries import DeviceFacts
from ..spi.specs import ModelSpec
from . import slots
from .architecture import choose_model
from .discover import core_version
from .options import check_options
from .registry import Registry, State
from .resolve import resolve_target
from .select import Choice, Refused, Selector

__all__ = ["Choice", "KVGroup", "Plan", "Refused", "make_plan"]

SCHEMA = 1
logger = logging.getLogger(__name__)
_ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, kw_only=True)
class KVGroup:
    """Layers with equal KV specs: one block table serves them all."""

    spec: KVSpec
    layers: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The assembly of one engine. Immutable, JSON-able both ways; see :func:`make_plan`.

    Attributes:
        openlathe: version of core that made it.
        config: the configuration as given; the fields below hold what "auto" and unset came to.
        config_target: import string of the model's torch-free configuration class.
        dtype, kv_dtype: torch names, such as ``"bfloat16"``.
        choices: slot -> choice; parsers and the chat template are absent where nothing was chosen.
        notes: sentences for people about what was not chosen.
    """

    schema: int = SCHEMA
    openlathe: str
    config: EngineConfig
    model_path: str
    architecture: str
    hf_config: dict[str, Any]
    config_target: str
    dtype: str
    kv_dtype: str
    device: DeviceFacts
    max_model_len: int
    max_num_seqs: int
    max_num_batched_tokens: int
    block_size: int
    kv_groups: tuple[KVGroup, ...]
    choices: dict[str, Choice]
    pooling: PoolingPlan | None = None
    notes: tuple[str, ...] = ()

    @property
    def splits_prompts(self) -> bool:
        """Whether a prompt may be computed over several steps: not where its tokens see each other both ways."""
        both_ways = any(isinstance(group.spec, EncoderOnly) for group in self.kv_groups)
        return self.config.enable_chunked_prefill and not both_ways

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes that one token takes in the KV cache over all layers."""
        elements = sum(group.spec.elements_per_token * len(group.layers) for group in self.kv_groups)
        return elements * _ITEM_BYTES.get(self.kv_dtype, 1) + (self._scale_bytes if self.kv_dtype == "int8" else 0)

    @property
    def _scale_bytes(self) -> int:
        """Of the scales of one token's keys and values, over all layers."""
        specs = ((group.spec, len(group.layers)) for group in self.kv_groups)
        return sum(2 * 4 * spec.kv_heads * layers for spec, layers in specs if isinstance(spec, kv.FullKV))

    def model_config(self) -> ModelConfig:
        """The model's own reading of config.json; raises ``CheckpointError`` for what it cannot serve."""
        return _model_config(self.choices["model"], self.config_target, self.hf_config)

    def resolve(self, slot: str) -> Any:
        """The object a slot was filled with; ``PluginError`` names kind, name, distribution and version."""
        choice = self.choices.get(slot)
        if choice is None:
            raise PluginError(f"The plan has nothing for {slot}.")
        return resolve_target(choice.kind, choice.name, choice.distribution, choice.version, choice.target)

    def to_dict(self) -> dict[str, Any]:
        data: dict[str, Any] = _plain(asdict(self))
        # a plan is shown, logged and handed to plugins: whose token fetched the model is none of its business
        data["config"]["hf_token"] = None
        for shown, group in zip(data["kv_groups"], self.kv_groups, strict=True):
            shown["kv"] = type(group.spec).__name__
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Plan:
        values = dict(data)
        values["config"] = EngineConfig.from_dict(data["config"])
        values["device"] = DeviceFacts(**{**data["device"], "features": frozenset(data["device"]["features"])})
        values["kv_groups"] = tuple(
            KVGroup(spec=_kv_spec(group["kv"], group["spec"]), layers=tuple(group["layers"]))
            for group in data["kv_groups"]
        )
        values["choices"] = {slot: _choice(choice) for slot, choice in data["choices"].items()}
        values["pooling"] = None if data["pooling"] is None else PoolingPlan(**_tuples(data["pooling"]))
        values["notes"] = tuple(data["notes"])
        return cls(**values)


def make_plan(
    config: EngineConfig, registry: Registry, *, model_path: str | Path | None = None, offline: bool = False
) -> Plan:
    """Chooses everything an engine for ``config.model`` is made of.

    ``model_path`` is the checkpoint's directory where it has been found already; ``offline`` gives the step sizes of
    batch work instead of those of a server. Raises ``ConfigError``, ``CheckpointError`` or ``PluginError``.
    """
    if config.model is None:
        raise ConfigError("No model was given; name a directory, a bundled checkpoint or a hub id.")
    registry.ensure_required()
    _report(registry)
    path = Path(model_path) if model_path is not None else locate(config.model, config, registry)
    hf_config = read_config(path, config.hf_overrides)
    if tokens := hf_config.get("classifier_from_token"):  # a classifier made of rows of the head: which ones
        hf_config["classifier_token_ids"] = token_ids(path, tokens)
    device = detect(config.device)
    check_options(config.plugin_options, registry)
    selector = Selector(registry, config.plugin_options)
    chosen = choose_model(selector, registry, config, device, hf_config)
    if not torch_installed():  # a model's plugin would have brought it, and is missed first
        raise ConfigError('torch is not installed; `pip install "openlathe-core[engine]"` brings it.')
    model, architecture = chosen.choice, chosen.architecture
    spec = registry.get("model", f"{model.distribution}/{model.name}").spec
    assert isinstance(spec, ModelSpec)
    reading = _model_config(model, spec.config, hf_config)
    groups = _groups(reading.kv_specs)
    needs = _needs(config, device, reading, groups, hf_config)
    choices, notes = slots.fill(selector, registry, needs, spec, architecture, path)
    pooling = plan_pooling(config, spec.capabilities, reading, path, hf_config)
    max_model_len = _max_model_len(config, reading, longest_text(path) if pooling is not None else None)
    whole = not config.enable_chunked_prefill or any(isinstance(group.spec, EncoderOnly) for group in groups)
    max_num_seqs, max_num_batched_tokens = _step_sizes(config, device, max_model_len, offline, whole)
    plan = Plan(
        openlathe=core_version(),
        config=config,
        model_path=str(path),
        architecture=architecture,
        hf_config=hf_config,
        config_target=spec.config,
        dtype=needs.dtype,
        kv_dtype=needs.kv_dtype,
        device=device,
        max_model_len=max_model_len,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        block_size=config.block_size,
        kv_groups=groups,
        choices={"model": model, **choices},
        pooling=pooling,
        notes=(*chosen.notes, *notes, *_notes(config, reading, max_model_len, path if pooling is not None else None)),
    )
    registry.ask("openlathe_configure", config=_resolved(plan))
    return plan


def _needs(
    config: EngineConfig,
    device: DeviceFacts,
    reading: ModelConfig,
    groups: Sequence[KVGroup],
    hf_config: Mapping[str, Any],
) -> slots.Needs:
    dtype = reading.dtype if config.dtype == "auto" else config.dtype
    return slots.Needs(
        config=config,
        device=device,
        dtype=dtype,
        kv_dtype=dtype if config.kv_cache_dtype == "auto" else config.kv_cache_dtype,
        num_heads=reading.num_heads,
        features=reading.attention_features,
        kv_specs=tuple(group.spec for group in groups),
        quantization=(hf_config.get("quantization_config") or {}).get("quant_method"),
    )


def _model_config(model: Choice, target: str, hf_config: Mapping[str, Any]) -> ModelConfig:
    config_class = resolve_target("model", model.name, model.distribution, model.version, target)
    return config_class.from_hf(hf_config)


def _groups(specs: Sequence[KVSpec]) -> tuple[KVGroup, ...]:
    """Layers by equal specs, in order of appearance."""
    layers: dict[KVSpec, list[int]] = {}
    for index, spec in enumerate(specs):
        if isinstance(spec, SharedWith):
            raise CheckpointError(
                f"Layer {index} of this model reads the keys and values of layer {spec.layer}, which the engine does "
                "not serve; choose a model whose layers keep their own."
            )
        layers.setdefault(spec, []).append(index)
    return tuple(KVGroup(spec=spec, layers=tuple(found)) for spec, found in layers.items())


def _max_model_len(config: EngineConfig, reading: ModelConfig, longest_text: int | None) -> int:
    """What was asked for, at most what the model was made for: by default all of that, unless its configuration has a
    ``usual_length``."""
    limit = min(reading.max_position_embeddings, longest_text or reading.max_position_embeddings)
    if config.max_model_len is None:
        return min(limit, getattr(reading, "usual_length", limit))
    if config.max_model_len > limit:
        raise ConfigError(
            f"--max-model-len {config.max_model_len} is above the {limit} positions that the model was made for; "
            f"give at most {limit}."
        )
    return config.max_model_len


def _notes(config: EngineConfig, reading: ModelConfig, max_model_len: int, pools: Path | None) -> list[str]:
    """What the checkpoint brings that is not used as a matter of course; ``pools`` is where one that pools lies."""
    notes = []
    longest = reading.max_position_embeddings
    if config.max_model_len is None and max_model_len == getattr(reading, "usual_length", longest) < longest:
        notes.append(
            f"Up to {max_model_len} tokens are served, as the model was trained at first; --max-model-len reaches up "
            f"to {longest}, and beyond {max_model_len} all texts get what was made for long ones."
        )
    if pools is not None and (names := unused_prompts(pools)):
        notes.append(
            f"The checkpoint's prompts ({', '.join(names)}) are not put before texts; send them with the texts that "
            "need them."
        )
    return notes


def _step_sizes(
    config: EngineConfig, device: DeviceFacts, max_model_len: int, offline: bool, whole: bool
) -> tuple[int, int]:
    """Most requests and most tokens of one step.

    A CPU computes as fast as it can from some 64 tokens on. A server's steps are no longer than that is worth: whoever
    decodes waits for the prompts that are computed in the same step, and the first prompts for the last.

    ``whole``: prompts are not split, so that the longest one has to fit.
    """
    on_cpu = device.type == "cpu"
    seqs = config.max_num_seqs or (128 if on_cpu and not offline else 256)
    tokens = config.max_num_batched_tokens or (8192 if not on_cpu else 4096 if offline else 256)
    if whole and config.max_num_batched_tokens is None:
        tokens = max(tokens, max_model_len)
    if whole and tokens < max_model_len:
        raise ConfigError(
            f"--max-num-batched-tokens {tokens} is below the {max_model_len} tokens of the longest prompt, which this "
            "model computes in one step; raise it, or lower --max-model-len."
        )
    if tokens < seqs:
        if config.max_num_seqs is not None and config.max_num_batched_tokens is not None:
            raise ConfigError(
                f"--max-num-batched-tokens {tokens} is below --max-num-seqs {seqs}, and every request of a step needs "
                "at least one token; raise the one or lower the other."
            )
        seqs, tokens = (tokens, tokens) if config.max_num_seqs is None else (seqs, seqs)
    return seqs, tokens


def _resolved(plan: Plan) -> dict[str, Any]:
    """The configuration with what unset and automatic values came to, for ``openlathe_configure``."""
    names = ("dtype", "max_model_len", "max_num_seqs", "max_num_batched_tokens")
    return {**plan.to_dict()["config"], **{name: getattr(plan, name) for name in names}, "device": plan.device.type}


def _kv_spec(name: str, values: Mapping[str, Any]) -> KVSpec:
    return getattr(kv, name)(**_tuples(values))


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` with tuples where JSON has lists."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _plain(value: Any) -> Any:
    """``value`` in the types that JSON has."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _choice(values: Mapping[str, Any]) -> Choice:
    refused = [Refused(provider=item["provider"], reasons=tuple(item["reasons"])) for item in values["refused"]]
    return Choice(**{**values, "refused": tuple(refused)})


def _report(registry: Registry) -> None:
    for plugin in registry.plugins:
        if plugin.state in (State.BROKEN, State.INCOMPATIBLE, State.UNAVAILABLE):
            logger.warning("The plugin %s is %s: %s.", plugin.id, plugin.state, plugin.reason)
