"""The only structs that cross between the server and the engine; pure data, encoded with msgspec."""

from __future__ import annotations

import math
import time
from functools import cache
from typing import Any, Literal

import msgspec

from ..spi.errors import InvalidRequest

PoolingTask = Literal["embed", "token_embed", "classify", "token_classify"]
FinishReason = Literal["stop", "length", "abort", "error"]

SLEEP_LEVELS = (1, 2)
#: What sleeps, in the order in which it wakes.
SLEEP_TAGS = ("weights", "kv_cache")

#: No number has more than 64 bits, neither in msgpack nor in the engine's arrays.
_MOST = 2**63 - 1
#: Sampling parameter -> least and greatest value, and how both are said.
_RANGES: dict[str, tuple[float, float, str]] = {
    "n": (1, _MOST, "at least 1"),
    "temperature": (0, _MOST, "0 or more"),
    "top_p": (math.ulp(0), 1, "above 0 and at most 1"),
    "top_k": (-1, _MOST, "-1 or 0 for off, or a positive number"),
    "min_p": (0, 1, "from 0 to 1"),
    "max_tokens": (1, _MOST, "at least 1"),
    "min_tokens": (0, _MOST, "0 or more"),
    "thinking_token_budget": (0, _MOST, "0 or more"),
    "presence_penalty": (-2, 2, "from -2 to 2"),
    "frequency_penalty": (-2, 2, "from -2 to 2"),
    "repetition_penalty": (math.ulp(0), _MOST, "above 0; 1 is off"),
    "logprobs": (-1, _MOST, "0 or more, or -1 for the whole vocabulary"),
    "prompt_logprobs": (-1, _MOST, "0 or more, or -1 for the whole vocabulary"),
    "truncate_prompt_tokens": (-1, _MOST, "at least 1, or -1 for what the model's context holds"),
}


def _check_types(params: msgspec.Struct) -> None:
    """Raises ``InvalidRequest`` for a field that is not of its type: structs made in Python take anything."""
    for name, (type, default) in _types(params.__class__).items():
        if (value := getattr(params, name)) is default:
            continue
        try:
            msgspec.convert(value, type)
        except msgspec.ValidationError as error:
            raise InvalidRequest(f"{name} has the wrong type: {error}.", param=name) from None


@cache
def _types(struct: type[msgspec.Struct]) -> dict[str, tuple[Any, Any]]:
    return {field.name: (field.type, field.default) for field in msgspec.structs.fields(struct)}


class SamplingParams(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How the next tokens are chosen; names, meanings and defaults as in vLLM and OpenAI.

    ``temperature`` 0 is greedy. ``top_k`` 0 or -1 is off. ``logprobs`` is the number of alternatives reported with
    every token (None: none, 0: the sampled token only, -1: the whole vocabulary). A request without ``seed`` draws
    one; every draw depends on (seed, position) alone, and 64 bits of a seed count. ``stop`` may be a single string.
    ``n``, ``stop``, ``thinking_token_budget`` and the fields that shape text are used by the frontend and never reach
    the engine's step. Raises ``InvalidRequest`` for a value of the wrong type or out of range.
    """

    n: int = 1
    best_of: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    max_tokens: int | None = 16
    min_tokens: int = 0
    thinking_token_budget: int | None = None
    stop: list[str] = []
    stop_token_ids: list[int] = []
    ignore_eos: bool = False
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] = []
    bad_words_token_ids: list[list[int]] = []
    truncate_prompt_tokens: int | None = None
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    include_stop_str_in_output: bool = False
    detokenize: bool = True
    extra_args: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        stop: Any = self.stop
        self.stop = [stop] if isinstance(stop, str) else stop or []
        self.stop_token_ids = self.stop_token_ids or []
        _check_types(self)
        for name, (least, greatest, wanted) in _RANGES.items():
            value = getattr(self, name)
            # Written so that NaN, which compares with nothing, is refused as well.
            if value is not None and not least <= value <= greatest:
                raise InvalidRequest(f"{name} is {value}; give {wanted}.", param=name)
        if self.seed is not None:
            self.seed %= 2**64
        if "" in self.stop:
            raise InvalidRequest("A stop string is empty; leave it out.", param="stop")
        if self.best_of is not None and self.best_of < self.n:
            raise InvalidRequest(f"best_of is {self.best_of}, below n {self.n}; raise it.", param="best_of")
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            raise InvalidRequest(
                f"min_tokens is {self.min_tokens}, above max_tokens {self.max_tokens}; lower it.", param="min_tokens"
            )


class ThinkingBudget(msgspec.Struct, kw_only=True, omit_defaults=True):
    """After how many ``tokens`` of thinking the engine writes ``closing`` instead of what the model would.

    Thinking is ``opened`` by the prompt, or by an output that begins with one of ``openings``. Any of ``closings``, of
    which ``closing`` is one, ends it for good. All are token ids.
    """

    tokens: int
    opened: bool
    openings: list[list[int]] = []
    closings: list[list[int]]
    closing: list[int]


class PoolingParams(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What is wanted of a model that pools; names as in vLLM.

    ``task`` None: the model's own. ``dimensions`` cuts an embedding before it is brought to length one.
    ``use_activation`` False: raw values; None: as the model says. Raises ``InvalidRequest`` for a value of the wrong
    type.
    """

    task: PoolingTask | None = None
    dimensions: int | None = None
    use_activation: bool | None = None

    def __post_init__(self) -> None:
        _check_types(self)


class Pooled(msgspec.Struct, array_like=True):
    """Float32 numbers of a ``shape``, little-endian: a vector, or one for each token."""

    data: bytes
    shape: list[int]


class EngineRequest(msgspec.Struct, kw_only=True, omit_defaults=True, tag="request"):
    """One sequence to generate, or with ``pooling`` one to be answered with a vector.

    ``eos_token_ids`` always stop unless ``sampling.ignore_eos``; a lower ``priority`` is served first.

    ``fork_of`` names a request whose leading tokens are equal: its blocks are shared, down to the token, and copied
    when written. ``hold`` keeps the blocks after the last token, to be forked from, until an Abort. Both save work
    and change no token: a fork whose parent is gone is computed like any other request, and held blocks are given
    up where memory is short. ``adapter`` and ``grammar`` belong to features that a given engine may not have; it
    refuses them with a sentence rather than ignoring them. ``token_type_ids`` has the segment of each prompt
    token where there is more than one.
    """

    request_id: str
    prompt_token_ids: list[int]
    sampling: SamplingParams = msgspec.field(default_factory=SamplingParams)
    eos_token_ids: list[int] = []
    arrival_time: float = msgspec.field(default_factory=time.monotonic)
    priority: int = 0
    cache_salt: str | None = None
    adapter: str | None = None
    grammar: str | None = None
    thinking_budget: ThinkingBudget | None = None
    fork_of: str | None = None
    hold: bool = False
    pooling: PoolingParams | None = None
    token_type_ids: list[int] = []


class Abort(msgspec.Struct, tag="abort"):
    """Forget these requests, whatever their state; unknown ids are ignored."""

    request_ids: list[str]


class Call(msgspec.Struct, kw_only=True, omit_defaults=True, tag="call"):
    """A rare administrative call (``stats``, ``reset_prefix_cache``, ``shutdown``, ...), answered by one Reply."""

    call_id: int
    method: str
    args: list[Any] = []


class Reply(msgspec.Struct, kw_only=True, omit_defaults=True, tag="reply"):
    """The answer to a Call; ``error`` is one sentence."""

    call_id: int
    result: Any = None
    error: str | None = None


class TokenLogprobs(msgspec.Struct, array_like=True):
    """Log-probabilities at one position: the sampled token first, then the most likely ones, best first."""

    token_ids: list[int]
    logprobs: list[float]
    rank: int
    """Rank of the sampled token, from 1."""


class RequestOutput(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What one step brought one request.

    ``stop_reason`` is the stop token that ended it; ``error`` one sentence where ``finish_reason`` is ``error``.
    ``cached_tokens`` and ``scheduled_time`` (monotonic clock, when its first step was planned) are set in the first
    output that has a token; ``preemptions`` is how often its blocks were taken back so far.
    ``prompt_logprobs`` are those of the next prompt positions: the first position of a prompt has none.
    """

    request_id: str
    token_ids: list[int] = []
    logprobs: list[TokenLogprobs] | None = None
    prompt_logprobs: list[TokenLogprobs] | None = None
    finish_reason: FinishReason | None = None
    stop_reason: int | None = None
    cached_tokens: int | None = None
    scheduled_time: float | None = None
    preemptions: int = 0
    pooled: Pooled | None = None
    error: str | None = None


class EngineStats(msgspec.Struct, kw_only=True):
    """Gauges of now and counters since start. Blocks are KV blocks.

    ``deferred`` of the waiting requests wait for something other than room (a fork for its parent's prompt).
    ``steps`` have ended, and of the last of them are ``step_tokens``, ``step_seconds``, the time from the output before
    to its own, and ``host_seconds``, the part of it in which the device had to wait for the host. ``sleep_level`` is 0
    while the engine is awake.
    """

    running: int = 0
    waiting: int = 0
    deferred: int = 0
    held: int = 0
    total_blocks: int = 0
    free_blocks: int = 0
    step_tokens: int = 0
    prefix_queries: int = 0
    prefix_hits: int = 0
    preemptions: int = 0
    steps: int = 0
    step_seconds: float = 0.0
    host_seconds: float = 0.0
    sleep_level: int = 0


class EngineOutputs(msgspec.Struct, kw_only=True, omit_defaults=True, tag="outputs"):
    """Everything one step brought, in one message."""

    outputs: list[RequestOutput] = []
    stats: EngineStats | None = None


class EngineReady(msgspec.Struct, kw_only=True, omit_defaults=True, tag="ready"):
    """The engine has loaded; ``facts`` holds ``num_blocks``, ``block_size``, ``max_model_len``, seconds and bytes."""

    facts: dict[str, Any] = {}


class EngineDead(msgspec.Struct, kw_only=True, omit_defaults=True, tag="dead"):
    """The engine has stopped, or could not start; ``refused`` says that the cause is the user's to mend."""

    reason: str
    refused: bool = False


ToEngine = EngineRequest | Abort | Call
FromEngine = EngineOutputs | Reply | EngineReady | EngineDead
