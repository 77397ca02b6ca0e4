"""The slots of an assembly, one function each: which candidates come into question, and what chooses among them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from ..checkpoint import read_json
from ..config import EngineConfig
from ..spi.errors import CheckpointError, ConfigError, PluginError, ProviderNotFound
from ..spi.kv import KVSpec, StateKV
from ..spi.queries import AttentionQuery, DeviceFacts, GenericQuery, KernelQuery, ParserQuery
from ..spi.specs import (
    AttentionBackendSpec,
    ChatTemplateSpec,
    KernelSpec,
    LogitsProcessorSpec,
    ModelSpec,
    QuantizationSpec,
    ReasoningParserSpec,
    Spec,
    ToolParserSpec,
)
from .registry import Registry
from .resolve import resolve_target
from .select import Choice, Selector, Slot, Tied

OFF = "none"


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What the checkpoint, the device and the configuration ask of the parts; ``kv_specs`` one per KV group."""

    config: EngineConfig
    device: DeviceFacts
    dtype: str
    kv_dtype: str
    num_heads: int
    features: frozenset[str]
    kv_specs: tuple[KVSpec, ...]
    quantization: str | None


def fill(
    selector: Selector, registry: Registry, needs: Needs, model: ModelSpec, architecture: str, path: Path
) -> tuple[dict[str, Choice], tuple[str, ...]]:
    """Every slot but the model's, by name, and sentences about those that stay empty."""
    notes: list[str] = []
    choices = [_executor(selector, needs), *_weights(selector, needs)]
    choices += _attention(selector, registry, needs)
    choices += _kernels(selector, registry, needs)
    choices += _grammar(selector, needs)
    choices += _logits_processors(selector, registry, needs)
    clues = _clues(path, architecture)
    template = _chat_template(selector, registry, needs.config.chat_template, model, clues, notes)
    clues = replace(clues, chat_template=_text_in_use(needs.config.chat_template, template, clues.chat_template))
    tool = parser(selector, "tool-parser", needs.config.tool_call_parser, model.tool_parser, clues, notes)
    thought = parser(selector, "reasoning-parser", needs.config.reasoning_parser, model.reasoning_parser, clues, notes)
    thought = None if thought is None else _with_marks(registry, thought)
    choices += [choice for choice in (tool, thought, template) if choice is not None]
    if model.score_template is not None:
        slot = Slot(name="score-template", kind="chat-template", query=clues, flag="--prefer chat-template.NAME=DIST")
        choices.append(selector.named(slot, model.score_template, "the family judges pairs by it"))
    return {choice.slot: choice for choice in choices}, tuple(notes)


# -- the engine ---------------------------------------------------------------------------------------------------


def _executor(selector: Selector, needs: Needs) -> Choice:
    name = needs.config.distributed_executor_backend
    query = GenericQuery(name=name, device=needs.device, facts={"workers": 1})
    slot = Slot(name="executor", kind="executor", query=query, flag="--distributed-executor-backend")
    return selector.named(slot, name, "asked for") if name else selector.required(slot)


def _weights(selector: Selector, needs: Needs) -> list[Choice]:
    """How linear layers multiply and, where they do not read the checkpoint's own form, who unpacks it.

    A flag decides about the layers, else the checkpoint's form where somebody multiplies with it, else plain weights.
    """
    form, asked = needs.quantization, needs.config.quantization
    facts = {"dtype": needs.dtype, "batch_invariant": needs.config.batch_invariant}
    query = GenericQuery(name=asked or form, device=needs.device, facts=facts)
    methods = Slot(
        name="linear",
        kind="quantization",
        query=query,
        flag="--quantization",
        candidates=lambda spec: not _unpacks(spec),
    )
    if asked and asked != form:
        chosen = selector.named(methods, asked, "asked for by --quantization")
    elif form is None:
        return [selector.named(methods, OFF, "the checkpoint is not quantised")]
    else:
        readers = replace(methods, candidates=lambda spec: _reads(spec, form) and not _unpacks(spec))
        if (reader := selector.automatic(readers)) is not None:
            return [reader]
        chosen = selector.named(methods, OFF, "the checkpoint is unpacked")
    if form is None:
        return [chosen]
    unpackers = replace(methods, name="unpack", candidates=lambda spec: _reads(spec, form) and _unpacks(spec))
    unpacker = selector.automatic(unpackers)
    if unpacker is None:
        readers = replace(unpackers, candidates=lambda spec: _reads(spec, form))
        _, refused = selector.sift(readers)
        why = selector.because(readers) if refused else _those_read(selector, methods)
        raise CheckpointError(f"The checkpoint is quantised with {form!r}, which no installed plugin reads{why}.")
    return [chosen, unpacker]


def _those_read(selector: Selector, methods: Slot) -> str:
    """What the installed plugins do read."""
    every, _ = selector.sift(
        replace(methods, candidates=lambda spec: bool(cast(QuantizationSpec, spec).checkpoint_methods))
    )
    forms = sorted({form for item in every for form in cast(QuantizationSpec, item.spec).checkpoint_methods})
    return f"; those that are installed read {', '.join(forms)}" if forms else "; none is installed"


def _reads(spec: Spec, form: str) -> bool:
    return form in cast(QuantizationSpec, spec).checkpoint_methods


def _unpacks(spec: Spec) -> bool:
    return cast(QuantizationSpec, spec).unpacks


def _kernels(selector: Selector, registry: Registry, needs: Needs) -> list[Choice]:
    """One provider for each operator that any installed plugin provides."""
    specs = [cast(KernelSpec, item.provider.spec) for item in registry.contributions("kernel")]
    operators = sorted({spec.operator for spec in specs})
    for operator in needs.config.kernels:
        if operator not in operators:
            raise ConfigError(f"--kernels: there is no operator {operator!r}; there are {', '.join(operators)}.")
    return [choice for operator in operators if (choice := _kernel(selector, needs, operator))]


def _kernel(selector: Selector, needs: Needs, operator: str) -> Choice | None:
    slot = Slot(
        name=f"kernel.{operator}",
        kind="kernel",
        query=KernelQuery(
            operator=operator,
            device=needs.device,
            dtype=needs.dtype,
            kv_dtype=needs.kv_dtype,
            quantization=needs.config.quantization or needs.quantization,
            features=needs.features if operator == "attend" else frozenset(),
            batch_invariant=needs.config.batch_invariant,
        ),
        flag=f"--kernels {operator}=NAME",
        candidates=lambda spec: cast(KernelSpec, spec).operator == operator,
    )
    name = needs.config.kernels.get(operator)
    choice = selector.named(slot, name, "asked for by --kernels") if name else selector.automatic(slot)
    if choice is None and needs.config.batch_invariant:
        _refuse_the_flag(selector, slot)
    return choice


def _refuse_the_flag(selector: Selector, slot: Slot) -> None:
    """Raises where the operator could be had if its results might depend on the batch."""
    query = cast(KernelQuery, slot.query)
    able, _ = selector.sift(replace(slot, query=replace(query, batch_invariant=False)))
    if able:
        raise PluginError(
            f"--batch-invariant cannot be kept on {query.device.type}: no installed kernel for {query.operator} in "
            f"{query.dtype} is free of the batch; leave the flag out or install one{selector.because(slot)}.",
            kind=slot.kind,
            name=query.operator,
        )


def _attention(selector: Selector, registry: Registry, needs: Needs) -> list[Choice]:
    """One backend per KV group; a recurrent state needs none."""
    choices: list[Choice] = []
    name = needs.config.attention_backend
    for index, spec in enumerate(needs.kv_specs):
        if isinstance(spec, StateKV):
            continue
        windowed = {"sliding_window"} if getattr(spec, "window", None) is not None else set()
        query = AttentionQuery(
            device=needs.device,
            dtype=needs.dtype,
            kv_dtype=needs.kv_dtype,
            kv=spec,
            num_heads=needs.num_heads,
            block_size=needs.config.block_size,
            features=needs.features - {"sliding_window"} | windowed,
            batch_invariant=needs.config.batch_invariant,
        )
        slot = Slot(name=f"attention.{index}", kind="attention-backend", query=query, flag="--attention-backend")
        choice = selector.named(slot, name, f"asked for by {slot.flag}") if name else selector.required(slot)
        backend = cast(AttentionBackendSpec, registry.get(slot.kind, f"{choice.distribution}/{choice.name}").spec)
        choices.append(replace(choice, facts={"graph_capture": "graph_capture" in backend.features}))
    return choices


def _grammar(selector: Selector, needs: Needs) -> list[Choice]:
    """Whichever is installed; without one, constrained requests are refused."""
    query = GenericQuery(device=needs.device)
    slot = Slot(name="grammar", kind="grammar", query=query, flag="--prefer grammar.NAME=DIST")
    choice = selector.automatic(slot)
    return [] if choice is None else [choice]


def _logits_processors(selector: Selector, registry: Registry, needs: Needs) -> list[Choice]:
    """Those that were asked for, in that order; nothing else changes anybody's logits."""
    choices: list[Choice] = []
    for index, name in enumerate(needs.config.logits_processors):
        query = GenericQuery(name=name, device=needs.device)
        slot = Slot(name=f"logits-processor.{index}", kind="logits-processor", query=query, flag="--logits-processors")
        spec = cast(LogitsProcessorSpec, registry.get(slot.kind, name).spec)
        reason = f"asked for by {slot.flag}" + ("" if spec.changes_argmax else "; greedy requests skip it")
        facts = {"changes_argmax": spec.changes_argmax, "arguments": list(spec.arguments)}
        choice = replace(selector.named(slot, name, reason), facts=facts)
        if any((choice.name, choice.distribution) == (other.name, other.distribution) for other in choices):
            raise ConfigError(f"--logits-processors names {choice.name!r} twice; name it once.")
        choices.append(choice)
    return choices


# -- the frontend -------------------------------------------------------------------------------------------------


def _clues(path: Path, architecture: str) -> ParserQuery:
    """What a checkpoint's own files tell about the format its model writes."""
    settings = read_json(path / "tokenizer_config.json")
    files = (path / "chat_template.jinja", *sorted(path.glob("additional_chat_templates/*.jinja")))
    separate = "\n".join(file.read_text(encoding="utf-8") for file in files if file.is_file())
    template = separate or read_json(path / "chat_template.json").get("chat_template") or settings.get("chat_template")
    if isinstance(template, list):
        template = "\n".join(str(item.get("template", "")) for item in template)
    added = settings.get("added_tokens_decoder") or {}
    return ParserQuery(
        architecture=architecture,
        chat_template=str(template or ""),
        added_tokens=frozenset(str(token.get("content")) for token in added.values()),
    )


def _text_in_use(asked: str | None, provided: Choice | None, own: str) -> str:
    """The text of the template that prompts will be rendered with: parsers are chosen by what it bears."""
    if asked is None and own:
        return own
    if provided is not None:
        path: Path = resolve_target(
            provided.kind, provided.name, provided.distribution, provided.version, provided.target
        )
        return path.read_text(encoding="utf-8")
    if asked is not None and _is_file(asked):
        return Path(asked).read_text(encoding="utf-8")
    return asked or own


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # a template's text is too long for a name
        return False


def parser(
    selector: Selector, kind: str, asked: str | None, named: str | None, clues: ParserQuery, notes: list[str]
) -> Choice | None:
    """A flag, else the name in the model's spec, else the one whose fingerprints the chat template bears, or failing
    that the vocabulary with it, else none.

    The template goes before the model where it bears the fingerprints of another parser and not those of the one that
    is named: what a checkpoint was trained to write since is not for its architecture to know. Where several equally
    good ones do, none is taken: a guess would take text for calls, or calls for text.
    """
    flag = "--tool-call-parser" if kind == "tool-parser" else "--reasoning-parser"
    slot = Slot(name=kind, kind=kind, query=clues, flag=flag)
    if asked == OFF:
        notes.append(f"No {kind}: switched off by {flag}.")
        return None
    if asked:
        return selector.named(slot, asked, f"asked for by {flag}")
    models = None
    if named:
        try:
            models = selector.named(slot, named, "named by the model plugin")
        except ProviderNotFound as error:
            notes.append(str(error))
    if models is not None and not _contradicted(selector, slot, models, clues):
        return models
    why = f"No {kind}: the chat template bears no known fingerprint, so text is passed on as it is; {flag} names one."
    bearer = "the chat template bears"
    try:
        choice = selector.automatic(replace(slot, candidates=_bears(clues.chat_template)))
        if choice is None and models is None:
            bearer = "the chat template and the vocabulary bear"
            words = "\n".join((clues.chat_template, *sorted(clues.added_tokens)))
            choice = selector.automatic(replace(slot, candidates=_bears(words)))
    except Tied as error:
        choice, why = None, f"No {kind}, so text is passed on as it is. {error}"
    if choice is None:
        notes += [why] if models is None else []
        return models
    instead = f", not those of {models.name!r}, which the model plugin names" if models is not None else ""
    return replace(choice, reason=f"{bearer} its fingerprints{instead}; {choice.reason}")


def _contradicted(selector: Selector, slot: Slot, choice: Choice, clues: ParserQuery) -> bool:
    """Whether the chosen parser has fingerprints and the chat template does not bear them."""
    able, _ = selector.sift(slot)
    specs = (item.spec for item in able if (item.distribution, item.spec.name) == (choice.distribution, choice.name))
    return any(cast(ToolParserSpec, spec).fingerprints and not _bears(clues.chat_template)(spec) for spec in specs)


def _with_marks(registry: Registry, choice: Choice) -> Choice:
    """A reasoning parser with what opens and closes thinking in its format."""
    spec = cast(ReasoningParserSpec, registry.get(choice.kind, f"{choice.distribution}/{choice.name}").spec)
    return replace(choice, facts={"opens": list(spec.opens), "closes": list(spec.closes)})


def _bears(words: str) -> Callable[[Spec], bool]:
    def candidate(spec: Spec) -> bool:
        fingerprints = cast(ToolParserSpec, spec).fingerprints
        return bool(fingerprints) and all(mark in words for mark in fingerprints)

    return candidate


def _chat_template(
    selector: Selector, registry: Registry, asked: str | None, model: ModelSpec, clues: ParserQuery, notes: list[str]
) -> Choice | None:
    """A plugin's template by name; files, texts and what the checkpoint has itself are the frontend's to find.

    The spec's stop tokens travel as the choice's option ``stop``.
    """
    slot = Slot(name="chat-template", kind="chat-template", query=clues, flag="--chat-template")
    name = asked or model.chat_template
    if name is None or (asked and _is_file(asked)):
        return None
    try:
        choice = selector.named(
            slot, name, "asked for by --chat-template" if asked else "where the checkpoint has none"
        )
        spec = registry.get("chat-template", name).spec
        assert isinstance(spec, ChatTemplateSpec)
        return replace(choice, options={**choice.options, "stop": list(spec.stop)}) if spec.stop else choice
    except ProviderNotFound as error:
        if not asked:
            notes.append(str(error))
        return None
