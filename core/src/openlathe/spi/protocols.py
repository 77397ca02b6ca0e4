"""What a target must be, kind by kind. Shapes are written ``[T, H]``; T tokens of a step lie flat, without padding.

torch appears in annotations only, so that this module, like every module of the contract, imports without it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from .events import Event, Piece
from .kv import KVSpec
from .specs import Spec

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from ..layers.context import BuildContext
    from ..layers.weights import WeightMap


# -- provenance and life of the process ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A spec and where it came from. ``origin`` is ``index``, ``editable``, ``path`` or ``vcs``."""

    spec: Spec
    distribution: str
    version: str
    plugin: str
    origin: str = "index"

    @property
    def qualified_name(self) -> str:
        return f"{self.distribution}/{self.spec.name}"


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """What an engine that started (or is stopping) tells its observers."""

    model: str
    served_names: tuple[str, ...]
    plan: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class FinishedRequest:
    """One finished request; times in seconds."""

    request_id: str
    model: str
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    time_to_first_token: float | None
    total_time: float


# -- models -------------------------------------------------------------------------------------------------------


class ModelConfig(Protocol):
    """The torch-free reading of a config.json, in both of its layouts. All sizes are whole-model sizes.

    Attributes:
        dtype: the checkpoint's dtype by its torch name (``"bfloat16"``).
        kv_specs: one KV spec per layer, in layer order.
        attention_features: what the attention layers need (``sliding_window``, ``soft_cap``, ``sinks``).

    One more, ``usual_length``, is how many positions are served unless more are asked for, where that is fewer than
    ``max_position_embeddings``.
    """

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    max_position_embeddings: int
    dtype: str

    @classmethod
    def from_hf(cls, config: Mapping[str, Any]) -> ModelConfig:
        """Reads config.json; raises ``CheckpointError`` naming the field that cannot be served."""
        ...

    @property
    def kv_specs(self) -> tuple[KVSpec, ...]: ...

    @property
    def attention_features(self) -> frozenset[str]: ...


class Model(Protocol):
    """A model, written as readable single-device PyTorch; a ``torch.nn.Module``.

    ``weights`` declares as data how checkpoint names map to parameters (fused projections, names to skip, tied
    weights), so that every tensor can be accounted for. One that reads files itself has ``load_checkpoint(path)``,
    which fills it from there or, if ``path`` is None, with random numbers, and refuses what the loader would.
    """

    weights: ClassVar[WeightMap]

    def __init__(self, config: Any, context: BuildContext) -> None: ...

    def forward(
        self, input_ids: Tensor | None, positions: Tensor, batch: ModelBatch, inputs_embeds: Tensor | None = None
    ) -> Tensor:
        """``input_ids`` [T] int64 or ``inputs_embeds`` [T, H], ``positions`` [T] or [3, T] -> [T, H] or [S, H]."""
        ...

    def compute_logits(self, hidden: Tensor) -> Tensor:
        """``hidden`` [S, H] -> logits [S, V]."""
        ...


class PoolingModel(Protocol):
    """A model that answers with a vector a sequence instead of tokens; ``forward`` is that of :class:`Model`.

    Whose hidden state stands for the sequence is said by the checkpoint, or else by an attribute ``pooling`` of the
    model's configuration: ``last`` (as where there is none), ``cls`` (the first) or ``mean``. Another one,
    ``type_vocab_size``, is how many segments a model knows that reads prompts whole.
    """

    weights: ClassVar[WeightMap]

    def __init__(self, config: Any, context: BuildContext) -> None: ...

    def forward(
        self, input_ids: Tensor | None, positions: Tensor, batch: ModelBatch, inputs_embeds: Tensor | None = None
    ) -> Tensor: ...

    def head(self, hidden: Tensor) -> Tensor:
        """Pooled hidden states [S, H] -> embeddings [S, E], or logits [S, labels] before any activation."""
        ...


# -- attention ----------------------------------------------------------------------------------------------------


class KVPages(NamedTuple):
    """The pages of one layer. Layout ``hnd``: [blocks, kv_heads, block_size, dim]; ``nhd``: heads after slots."""

    k: Tensor
    v: Tensor


@dataclass(frozen=True, kw_only=True)
class KVLayout:
    """A named arrangement of one layer's pages and the shape of one page of keys and of values in elements."""

    name: str
    k_shape: tuple[int, ...]
    v_shape: tuple[int, ...]


@dataclass(slots=True)
class AttentionBatch:
    """One step of one KV group, as a backend plans it.

    R requests, T tokens. On the host query lengths are exact and sequence lengths are upper bounds; exact ones live
    on the device, so that speculation, asynchronous steps and graphs need no synchronisation.

    Attributes:
        query_start: [R + 1] int32 on the host: request r's queries are tokens ``query_start[r]:query_start[r+1]``.
        seq_lens_bound: [R] int32 on the host: tokens in the cache after this step, at most.
        query_start_device, seq_lens: the same on the device, exact, int32.
        block_table: [R, B] int32 on the device: page of each block; entries past a sequence's end and left of every
            query's window are undefined.
        slot_mapping: [T] int64 on the device: ``page * block_size + offset`` each token's key and value go to.
        common_prefix_blocks: leading blocks that all requests share.
    """

    num_requests: int
    num_tokens: int
    query_start: np.ndarray
    seq_lens_bound: np.ndarray
    query_start_device: Tensor
    seq_lens: Tensor
    block_table: Tensor
    slot_mapping: Tensor
    block_size: int
    common_prefix_blocks: int = 0


class AttentionLayer(Protocol):
    """What a backend may ask of the layer it runs."""

    pages: KVPages
    scale: float
    num_heads: int
    window: int | None
    soft_cap: float | None
    sinks: Tensor | None


class AttentionBackend(Protocol):
    """A planner, one instance per KV group; the work itself is done by operators or by a whole library."""

    def __init__(self, kv: KVSpec, num_heads: int, block_size: int, context: BuildContext) -> None: ...

    def kv_layout(self, kv: KVSpec) -> KVLayout: ...

    def plan(self, batch: AttentionBatch) -> Any:
        """Once a step. The result is handed to :meth:`run` for each layer of the group."""
        ...

    def run(self, q: Tensor, k: Tensor, v: Tensor, layer: AttentionLayer, plan: Any) -> Tensor:
        """Stores ``k`` [T, kv_heads, Dk] and ``v`` [T, kv_heads, Dv]; ``q`` [T, heads, Dk] -> [T, heads, Dv]."""
        ...


class LatentLayer(Protocol):
    """What a backend of ``MLAKV`` may ask of the layer it runs; D elements of a latent are L compressed ones, whose
    projections W_UK and W_UV make keys and values of them, and R rotary ones."""

    pages: KVPages
    scale: float
    num_heads: int

    def absorb(self, q: Tensor) -> Tensor:
        """``q`` [T, heads, Dk] -> [T, heads, D]: with W_UK folded in, to be compared with latents themselves."""
        ...

    def values(self, latent: Tensor) -> Tensor:
        """What was attended to, ``latent`` [T, heads, L] -> [T, heads, Dv], by W_UV."""
        ...

    def expand(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """``latent`` [T, D] -> keys [heads, T, Dk], values [heads, T, Dv], contiguous."""
        ...


class LatentBackend(Protocol):
    """As :class:`AttentionBackend`, for ``MLAKV``: pages ``k`` are [blocks, block_size, D] and ``v`` are empty."""

    def __init__(self, kv: KVSpec, num_heads: int, block_size: int, context: BuildContext) -> None: ...

    def kv_layout(self, kv: KVSpec) -> KVLayout: ...

    def plan(self, batch: AttentionBatch) -> Any: ...

    def run(self, q: Tensor, latent: Tensor, layer: LatentLayer, plan: Any) -> Tensor:
        """Stores ``latent`` [T, D]; ``q`` [T, heads, Dk] -> [T, heads, Dv]."""
        ...


@dataclass(slots=True)
class ModelBatch:
    """What ``forward`` hands to its layers: for each layer its backend and that backend's plan of this step.

    ``adapters`` is [T] int32, the adapter slot of each token, ``token_types`` [T] int64, its segment; None for none and
    for 0. ``wanted`` is [S] int64, the tokens whose hidden states alone are asked for; None for all of them.
    """

    backends: Sequence[AttentionBackend | None]
    plans: Sequence[Any]
    adapters: Tensor | None = None
    token_types: Tensor | None = None
    wanted: Tensor | None = None


# -- linear layers ------------------------------------------------------------------------------------------------


class LinearMethod(Protocol):
    """How a linear layer stores, loads and applies its weight; ``prefix`` is the module's name in the checkpoint."""

    def __init__(self, context: BuildContext, options: Mapping[str, Any]) -> None: ...

    def create(self, layer: Any, prefix: str, in_features: int, out_features: Sequence[int], bias: bool) -> None:
        """Registers the parameters on ``layer``; ``out_features`` lists the rows of each fused shard."""
        ...

    def load(self, layer: Any, name: str, shard: int | None, tensor: Tensor) -> None:
        """Copies one checkpoint tensor into parameter ``name``, into fused shard ``shard`` where there are several."""
        ...

    def pack(self, layer: Any) -> None:
        """Called once when everything is loaded: rearrange for speed, free what is no longer needed."""
        ...

    def apply(self, layer: Any, x: Tensor) -> Tensor:
        """``x`` [T, in] -> [T, out]."""
        ...


class Unpacker(Protocol):
    """Turns the tensors of a quantised checkpoint into plain ones while it is read.

    ``settings`` is the ``quantization_config`` of config.json; raises ``CheckpointError`` for what it cannot read.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None: ...

    def groups(self, names: Collection[str]) -> Mapping[str, Mapping[str, str]]:
        """Of all names in the checkpoint: plain tensor -> role -> the packed tensor that has it."""
        ...

    def unpack(self, parts: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        """The plain tensor in ``dtype``, from its parts by role."""
        ...


# -- adapters, offload --------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LoRAManifest:
    """What an adapter says about itself before its tensors are read."""

    rank: int
    alpha: float
    modules: tuple[str, ...]
    content_hash: str


class LoRALoader(Protocol):
    def open(self, path: str) -> LoRAManifest: ...

    def tensors(self, path: str) -> Iterator[tuple[str, Tensor]]: ...


class LoRAResolver(Protocol):
    def resolve(self, name: str) -> str | None: ...


class KVOffloadIndex(Protocol):
    """The half beside the scheduler; never blocks."""

    def lookup(self, keys: Sequence[bytes]) -> int | None:
        """How many leading blocks can be restored, or None while that is still being found out."""
        ...


class KVOffloadTransfer(Protocol):
    """The half beside a worker. No call raises into the scheduler: a failure is a miss."""

    def load(self, keys: Sequence[bytes], blocks: Sequence[int]) -> int: ...

    def store(self, keys: Sequence[bytes], blocks: Sequence[int]) -> int: ...

    def poll(self) -> Iterable[tuple[int, bool]]:
        """(transfer, succeeded) of the transfers that ended since the last call."""
        ...


class KVOffload(Protocol):
    def index(self) -> KVOffloadIndex: ...

    def transfer(self, layers: Sequence[KVPages]) -> KVOffloadTransfer: ...


# -- parsers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ParserContext:
    """What a parser is built with; no HTTP type is among it.

    Attributes:
        tools: the request's tools in OpenAI's shape, possibly empty.
        tool_choice: ``"auto"``, ``"none"``, ``"required"`` or the name of a function.
        prompt_tail: the end of the rendered prompt; a template may leave a section open.
        added_tokens: texts of the tokenizer's added tokens; a marker among them is meant only where it arrives as
            ``Special``. Empty where ids are unknown and everything arrives as ``Text``.
        options: the plugin's options.
    """

    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str = "auto"
    prompt_tail: str = ""
    added_tokens: Collection[str] = frozenset()
    options: Mapping[str, Any] = field(default_factory=dict)


class StreamParser(Protocol):
    """One incremental parser, a fresh instance per choice.

    Both methods return events and, for text the parser does not claim, the pieces it received: a reasoning parser
    hands the rest on to the tool parser that way, and only the last stage turns pieces into ``Content``.
    The result never depends on where the stream is cut, nothing emitted is retracted, no text is lost and no input
    raises.

    Attributes:
        markers: texts of the special tokens the parser has to see although they are invisible in an answer; of those
            that are invisible it is given no others.
    """

    markers: Collection[str]

    def feed(self, pieces: Sequence[Piece]) -> list[Event | Piece]: ...

    def finish(self) -> list[Event | Piece]: ...
