"""The records that registration hooks return: one frozen, keyword-only dataclass per kind, plain data throughout.

A spec never holds the object it describes. ``target`` is an import string, so that listing what is installed imports
no torch, and a class object in its place is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

IMPORT_STRING = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")
RESOURCE_STRING = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[\w./-]+$")
NAME = re.compile(r"^[a-z0-9][a-z0-9._-]*$")

#: The architectures of a model plugin that is made for none in particular.
ANY = ("*",)

OptionValue = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Option:
    """One setting of a plugin, given as ``--opt KIND.NAME.key=value`` or under ``options:`` in the YAML file.

    ``type`` is ``str``, ``int``, ``float`` or ``bool``, or a ``module:function`` import string of a converter.
    """

    name: str
    type: str = "str"
    default: OptionValue | None = None
    help: str = ""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What every kind has in common.

    Attributes:
        name: key inside the kind: lower case letters, digits, ``.``, ``_`` and ``-``.
        target: ``"package.module:attribute"`` of the object that does the work (a resource for templates and
            checkpoints: ``"package:path/inside/it"``).
        api: version of the kind's protocol the target is written against.
        summary: one line for lists.
        aliases: further names, in the same name space as ``name``.
        options: settings the target understands; passed to it as a mapping.
        requires: requirement strings (PEP 508) checked from metadata before the target is used.
        install_hint: what to type when a requirement is missing.
        refuse: import string of a torch-free function ``(query) -> reasons``.
        priority: among candidates that do not refuse, the highest wins; a tie is an error naming both.
    """

    kind: ClassVar[str] = ""
    api_version: ClassVar[int] = 1

    name: str
    target: str
    api: int = 1
    summary: str = ""
    aliases: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    requires: tuple[str, ...] = ()
    install_hint: str = ""
    refuse: str | None = None
    priority: int = 0

    def __post_init__(self) -> None:
        self._check_import_string("target", self.target)
        if self.refuse is not None:
            _import_string(self, "refuse", self.refuse)
        for name in (self.name, *self.aliases):
            if not isinstance(name, str) or not NAME.match(name):
                raise ValueError(
                    f"{type(self).__name__} has the name {name!r}; a name is made of lower case letters, digits, "
                    "'.', '_' and '-' and begins with a letter or digit"
                )

    def _check_import_string(self, field: str, value: object) -> None:
        _import_string(self, field, value)


def _import_string(spec: Spec, field: str, value: object) -> None:
    if not isinstance(value, str):
        raise TypeError(
            f"{type(spec).__name__}({spec.name!r}).{field} is {value!r}; pass 'package.module:attribute' as a string, "
            "so that listing plugins imports nothing heavy"
        )
    if not IMPORT_STRING.match(value):
        raise ValueError(f"{type(spec).__name__}({spec.name!r}).{field} is {value!r}; write 'package.module:attribute'")


class _ResourceSpec(Spec):
    """A spec whose target is a file or folder inside a package."""

    def _check_import_string(self, field: str, value: object) -> None:
        if not isinstance(value, str) or not RESOURCE_STRING.match(value):
            raise ValueError(f"{type(self).__name__}({self.name!r}).{field} is {value!r}; write 'package:path'")


@dataclass(frozen=True, kw_only=True)
class ModelSpec(Spec):
    """A model family. ``target`` is the module class; see :class:`openlathe.spi.protocols.Model`.

    Attributes:
        architectures: names as in ``architectures`` of config.json, in Hugging Face's spelling. :data:`ANY` alone: any
            that is asked for by ``--model-impl NAME``, or that no family's plugin serves and this one does not refuse.
        config: import string of the torch-free configuration class
            (:class:`openlathe.spi.protocols.ModelConfig`), from which the plan is made before a byte is loaded.
        capabilities: e.g. ``generate``, ``embed``, ``classify``, ``lora``.
        lora_modules: leaf module names that may carry adapters.
        tool_parser, reasoning_parser, chat_template: names used unless a flag says otherwise.
        score_template: name of the chat template of one message by ``query`` and one by ``document``, for a family that
            judges pairs by such a prompt.
        reference: name of the transformers class that the conformance kit compares with.
        tiny_config: resource ``"package:file.json"`` with a tiny config.json for the conformance kit.
        checked: versions of transformers or checkpoints the family was proven against.
        own_layers: it brings its layers itself, so that neither linear methods nor operators other than those of
            attention reach them: quantised weights and ``--batch-invariant`` are refused.
    """

    kind: ClassVar[str] = "model"

    architectures: tuple[str, ...]
    config: str
    capabilities: frozenset[str] = frozenset({"generate"})
    lora_modules: tuple[str, ...] = ()
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    chat_template: str | None = None
    score_template: str | None = None
    reference: str | None = None
    tiny_config: str | None = None
    checked: tuple[str, ...] = ()
    own_layers: bool = False

    @property
    def serves_any(self) -> bool:
        return self.architectures == ANY

    def __post_init__(self) -> None:
        super().__post_init__()
        _import_string(self, "config", self.config)
        if not self.architectures:
            raise ValueError(f"ModelSpec({self.name!r}) names no architectures; list those of config.json it serves")


@dataclass(frozen=True, kw_only=True)
class AttentionBackendSpec(Spec):
    """A planner of attention; ``target`` follows :class:`openlathe.spi.protocols.AttentionBackend`.

    Empty tuples mean "any". ``kv`` names the KV spec classes served (``FullKV``, ``SlidingKV``, ``MLAKV``,
    ``EncoderOnly``); ``features`` come from ``sliding_window``, ``soft_cap``, ``sinks``, ``lse``, ``shared_prefix``,
    ``graph_capture``. ``operators`` are the kernels it is built on. ``batch_invariant`` as in :class:`KernelSpec`; a
    backend that leaves the work to operators declares it of its planning.
    """

    kind: ClassVar[str] = "attention-backend"

    devices: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    kv_dtypes: tuple[str, ...] = ()
    kv: tuple[str, ...] = ("FullKV",)
    head_dims: tuple[int, ...] = ()
    block_size_multiple: int = 1
    features: frozenset[str] = frozenset()
    operators: tuple[str, ...] = ()
    batch_invariant: bool = False


@dataclass(frozen=True, kw_only=True)
class KernelSpec(Spec):
    """A provider of one operator of :mod:`openlathe.kernels`, for given devices and dtypes (empty: any).

    ``kv_dtypes`` are those of the pages that ``write_kv`` and ``attend`` are given. ``batch_invariant``: what it
    answers for a token depends on that token (and the keys it sees) alone, to the last bit, whatever stands beside it
    in the step. ``--batch-invariant`` chooses among those that declare it.
    """

    kind: ClassVar[str] = "kernel"

    operator: str
    devices: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    kv_dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    features: frozenset[str] = frozenset()
    batch_invariant: bool = False


@dataclass(frozen=True, kw_only=True)
class _ParserSpec(Spec):
    """What tool and reasoning parsers share; ``target`` is called as ``(ParserContext) -> StreamParser``.

    Attributes:
        markers: strings that open or close a section; they need not be special tokens.
        punctuation: strings that are markup without being markers: the brackets of a list of calls, a whole heading of
            which only parts are.
        fingerprints: strings that a chat template contains when its model writes this format, or the vocabulary as
            special tokens.
        transcripts: resource folder of golden transcripts, ``"package:transcripts/name"`` style, for the kit.
    """

    markers: tuple[str, ...] = ()
    punctuation: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    transcripts: str | None = None


@dataclass(frozen=True, kw_only=True)
class ToolParserSpec(_ParserSpec):
    """A tool-call format.

    Attributes:
        starts: strings with which an answer may begin a call although no marker does, such as ``{``.
    """

    kind: ClassVar[str] = "tool-parser"

    starts: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReasoningParserSpec(_ParserSpec):
    """A reasoning format.

    Attributes:
        opens: texts that open thinking where an answer begins with them.
        closes: what closes thinking that the text at the same place of ``opens`` has opened. A budget of thinking is
            kept by writing it; a format that closes in no such way has neither.
    """

    kind: ClassVar[str] = "reasoning-parser"

    opens: tuple[str, ...] = ()
    closes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.opens) != len(self.closes):
            raise ValueError(
                f"ReasoningParserSpec({self.name!r}) opens with {len(self.opens)} texts and closes with "
                f"{len(self.closes)}; write what closes each at the same place"
            )


@dataclass(frozen=True, kw_only=True)
class ChatTemplateSpec(_ResourceSpec):
    """A chat template; ``target`` is the resource ``"package:file.jinja"``.

    ``supports`` comes from ``tools``, ``system``, ``reasoning``, or is ``score``, for a query and a document to be
    judged. ``stop`` are the tokens that end a turn where this template is used, whatever the checkpoint says.
    """

    kind: ClassVar[str] = "chat-template"

    supports: frozenset[str] = frozenset()
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LoRALoaderSpec(Spec):
    """A reader of one adapter format, recognised by ``marker_files`` in the adapter's folder."""

    kind: ClassVar[str] = "lora-loader"

    marker_files: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LoRAResolverSpec(Spec):
    """Finds the folder of an adapter by its name."""

    kind: ClassVar[str] = "lora-resolver"


@dataclass(frozen=True, kw_only=True)
class KVOffloadSpec(Spec):
    """A second home for KV blocks; ``tier`` is ``host``, ``disk`` or ``remote``, ``schemes`` its URL schemes."""

    kind: ClassVar[str] = "kv-offload"

    tier: str = "host"
    schemes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GrammarSpec(Spec):
    """A compiler of grammars; ``sources`` come from ``json_schema``, ``regex``, ``choice``, ``ebnf``."""

    kind: ClassVar[str] = "grammar"

    sources: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class QuantizationSpec(Spec):
    """A linear method; ``checkpoint_methods`` are the ``quant_method`` values of config.json it reads.

    Where it ``unpacks``, ``target`` follows :class:`openlathe.spi.Unpacker` instead of ``LinearMethod``: the tensors of
    those checkpoints are turned into plain ones as they are read, and any linear method takes them from there.
    A linear method with ``experts(gate_up, down, gate, *biases)`` also packs those of :mod:`openlathe.kernels.experts`.
    ``batch_invariant`` as in :class:`KernelSpec`; a method that leaves products to operators declares it of itself.
    """

    kind: ClassVar[str] = "quantization"

    checkpoint_methods: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    batch_invariant: bool = False
    unpacks: bool = False


@dataclass(frozen=True, kw_only=True)
class ExecutorSpec(Spec):
    """Where the workers run; see :class:`openlathe.spi.execution.Executor`."""

    kind: ClassVar[str] = "executor"

    max_workers: int | None = None


@dataclass(frozen=True, kw_only=True)
class DrafterSpec(Spec):
    """A proposer of draft tokens for speculative decoding."""

    kind: ClassVar[str] = "drafter"


@dataclass(frozen=True, kw_only=True)
class LogitsProcessorSpec(Spec):
    """A batch-wise change to the logits, chosen by ``--logits-processors``.

    Attributes:
        changes_argmax: whether the best token may become another one; if not, greedy requests are spared.
        arguments: names in a request's ``vllm_xargs`` that it reads; a name that nobody reads is refused.
    """

    kind: ClassVar[str] = "logits-processor"

    changes_argmax: bool = True
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class CheckpointSpec(_ResourceSpec):
    """A model directory bundled in a package; ``target`` is the resource folder ``"package:checkpoint"``.

    The one that is the ``default`` is served where no model is named.
    """

    kind: ClassVar[str] = "checkpoint"

    default: bool = False


@dataclass(frozen=True, kw_only=True)
class RoutesSpec(Spec):
    """Further HTTP routes; ``target`` is called as ``(api) -> list of starlette routes``."""

    kind: ClassVar[str] = "routes"


@dataclass(frozen=True, kw_only=True)
class CommandSpec(Spec):
    """A sub-command of ``core``.

    ``target`` is called as ``(arguments) -> exit status`` with the arguments behind the sub-command's name. One that
    ``assembles`` an engine is handed, in front of them, the flags that say which plugins may take part, wherever they
    stood; ``openlathe.api.parse_command`` reads both.
    """

    kind: ClassVar[str] = "command"

    assembles: bool = False


SPEC_TYPES: tuple[type[Spec], ...] = (
    ModelSpec,
    AttentionBackendSpec,
    KernelSpec,
    ToolParserSpec,
    ReasoningParserSpec,
    ChatTemplateSpec,
    LoRALoaderSpec,
    LoRAResolverSpec,
    KVOffloadSpec,
    GrammarSpec,
    QuantizationSpec,
    ExecutorSpec,
    DrafterSpec,
    LogitsProcessorSpec,
    CheckpointSpec,
    RoutesSpec,
    CommandSpec,
)

#: Every kind by its name, in the order lists print them.
KINDS: dict[str, type[Spec]] = {spec.kind: spec for spec in SPEC_TYPES}
