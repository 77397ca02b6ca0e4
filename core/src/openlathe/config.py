"""One typed configuration; flags, a YAML file and the environment are three ways to fill it.

Each field carries its own flag metadata (see :func:`setting`), from which the command line, its help and the reference
in the documentation are made. Values are checked here, once, whichever way they came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from .spi.errors import ConfigError

DTYPES = ("auto", "float32", "bfloat16", "float16", "half", "float")
LOG_LEVELS = ("critical", "error", "warning", "info", "debug", "trace")
RUNNERS = ("auto", "generate", "pooling")
#: Values of ``model_impl`` that ask for the plugin of a checkpoint's family; ``auto`` takes others where there is none.
FAMILY_IMPLS = ("auto", "openlathe", "vllm")
CONVERSIONS = ("auto", "none", "embed", "classify")
POOLER_SETTINGS = {"pooling_type": str, "seq_pooling_type": str, "use_activation": bool}
_KINDS = {str: "a name", bool: "true or false"}
LOAD_FORMATS = ("auto", "safetensors", "dummy")
_DTYPE_ALIASES = {"half": "float16", "float": "float32"}


def setting(default: Any, help: str, *, flags: tuple[str, ...] = (), group: str = "engine", **extra: Any) -> Any:
    """A field with its flag: ``flags`` are aliases of ``--field-name``, ``extra`` may hold ``choices``."""
    metadata = {"help": help, "flags": flags, "group": group, **extra}
    if isinstance(default, dict | list):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Everything that decides what is assembled and how it runs; immutable, JSON-serialisable."""

    model: str | None = setting(None, "directory, hub id or bundled checkpoint", group="model")
    served_model_name: list[str] = setting([], "name(s) clients use; default: the model as given", group="model")
    tokenizer: str | None = setting(None, "directory or hub id of the tokenizer; default: the model's", group="model")
    revision: str | None = setting(None, "branch, tag or commit of a hub model", group="model")
    download_dir: str | None = setting(None, "where hub models are kept; default: the hub's cache", group="model")
    hf_token: str | None = setting(None, "token for gated hub models", group="model")
    packed_cache_dir: str | None = setting(None, "where packed weights are kept; default: nowhere", group="model")
    load_format: str = setting("auto", "how weights are read; dummy: random", choices=LOAD_FORMATS, group="model")
    model_impl: str = setting("auto", "openlathe: a family's plugin; transformers; auto: as there is", group="model")
    dtype: str = setting("auto", "of weights and activations; auto: the checkpoint's", choices=DTYPES, group="model")
    quantization: str | None = setting(None, "quantization plugin for the linear layers", flags=("-q",), group="model")
    generation_config: str = setting("auto", "auto: the checkpoint's sampling defaults; vllm: neutral", group="model")
    override_generation_config: dict[str, Any] = setting({}, "JSON of sampling defaults", group="model")
    runner: str = setting("auto", "generate, or pool: embeddings and scores", choices=RUNNERS, group="model")
    convert: str = setting("auto", "what a pooling model is used for", choices=CONVERSIONS, group="model")
    pooler_config: dict[str, Any] = setting(
        {}, "JSON: pooling_type, use_activation", flags=("--override-pooler-config",), group="model"
    )
    hf_overrides: dict[str, Any] = setting({}, "JSON of fields of config.json to replace", group="model")
    max_logprobs: int = setting(20, "most logprobs a request may ask for; -1: no limit", group="model")

    device: str = setting("auto", "cpu, cuda or auto", group="engine")
    seed: int = setting(0, "for requests without one, and for dummy weights", group="engine")
    max_model_len: int | None = setting(None, "longest sequence in tokens (8k, 1M understood)", group="engine")
    max_num_seqs: int | None = setting(None, "most requests in one step", group="engine")
    max_num_batched_tokens: int | None = setting(None, "token budget of one step", group="engine")
    block_size: int = setting(16, "tokens in a KV block", group="engine")
    kv_cache_memory_bytes: int | None = setting(None, "size of the KV cache (4G understood)", group="engine")
    gpu_memory_utilization: float = setting(
        0.92, "share of an accelerator's memory to use", flags=("--device-memory-utilization",), group="engine"
    )
    kv_cache_dtype: str = setting("auto", "dtype of the KV cache", group="engine")
    num_gpu_blocks_override: int | None = setting(None, "exact number of KV blocks", group="engine")
    enable_prefix_caching: bool = setting(True, "reuse KV blocks of equal prefixes", group="engine")
    enable_chunked_prefill: bool = setting(True, "split long prompts over steps", group="engine")
    async_scheduling: bool = setting(True, "plan a step while the one before it runs", group="engine")
    long_prefill_token_threshold: int | None = setting(
        None, "most tokens of one prompt in a step while others wait; default: half the budget", group="engine"
    )
    batch_invariant: bool = setting(False, "results do not depend on what else runs, to the last bit", group="engine")
    logits_processors: list[str] = setting([], "logits processors to run, by name", group="engine")
    enable_sleep_mode: bool = setting(False, "routes that free and restore the engine's memory", group="engine")
    check_kv_integrity: bool = setting(False, "check the block pool whenever the engine is idle", group="engine")
    attention_backend: str | None = setting(None, "attention backend by name", group="engine")
    distributed_executor_backend: str | None = setting(None, "executor by name", group="engine")
    enforce_eager: bool = setting(False, "never capture graphs", group="engine")
    cpu_threads: int | None = setting(
        None, "threads that compute; default: OMP_NUM_THREADS, else all CPUs", group="engine"
    )

    tool_call_parser: str | None = setting(None, "tool parser; default: the model's", group="frontend")
    reasoning_parser: str | None = setting(None, "reasoning parser; default: the model's", group="frontend")
    reasoning_config: dict[str, Any] = setting({}, "JSON: reasoning_start_str and reasoning_end_str", group="frontend")
    reasoning_effort_map: dict[str, Any] = setting(
        {}, "JSON: effort to the template arguments it stands for", group="frontend"
    )
    chat_template: str | None = setting(None, "file, name or text; default: the checkpoint's", group="frontend")
    default_chat_template_kwargs: dict[str, Any] = setting({}, "JSON passed to every rendering", group="frontend")

    kernels: dict[str, str] = setting({}, "operator=provider, to override the choice", group="plugins")
    plugin_options: dict[str, str] = setting({}, "KIND.NAME.key=value", flags=("--opt",), group="plugins")

    def __post_init__(self) -> None:
        _at_least(self, 1, "max_model_len", "max_num_seqs", "max_num_batched_tokens", "block_size", "cpu_threads")
        _at_least(self, 1, "kv_cache_memory_bytes", "num_gpu_blocks_override", "long_prefill_token_threshold")
        _at_least(self, -1, "max_logprobs")
        _no_empty_word(self, "served_model_name")
        _one_of(self, "dtype", DTYPES)
        _one_of(self, "load_format", LOAD_FORMATS)
        _one_of(self, "runner", RUNNERS)
        _one_of(self, "convert", CONVERSIONS)
        for name, value in self.pooler_config.items():
            if name not in POOLER_SETTINGS:
                raise ConfigError(f"--pooler-config sets {name!r}; give any of {', '.join(POOLER_SETTINGS)}.")
            if value is not None and not isinstance(value, POOLER_SETTINGS[name]):
                raise ConfigError(f"--pooler-config sets {name} to {value!r}; give {_KINDS[POOLER_SETTINGS[name]]}.")
        _no_other_keys(self, "reasoning_config", ("reasoning_start_str", "reasoning_end_str"))
        for effort, kwargs in self.reasoning_effort_map.items():
            if not isinstance(kwargs, Mapping):
                raise ConfigError(f"--reasoning-effort-map has {kwargs!r} for {effort!r}; give an object of arguments.")
        if not 0.0 < self.gpu_memory_utilization <= 1.0:
            raise ConfigError(
                f"--gpu-memory-utilization is {self.gpu_memory_utilization}; give a share above 0 and up to 1."
            )
        budget, length = self.max_num_batched_tokens, self.max_model_len
        if not self.enable_chunked_prefill and budget is not None and length is not None and budget < length:
            raise ConfigError(
                f"--max-num-batched-tokens {budget} is below --max-model-len {length}, so that a long prompt would "
                "never fit a step; raise it or leave chunked prefill on."
            )
        object.__setattr__(self, "dtype", _DTYPE_ALIASES.get(self.dtype, self.dtype))

    @property
    def served_names(self) -> tuple[str, ...]:
        """The names clients use, the first of which answers carry."""
        return tuple(self.served_model_name) or ((self.model,) if self.model else ())

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EngineConfig:
        """Raises ``ConfigError`` for a name that is no setting."""
        known = {item.name for item in fields(cls)}
        for name in values:
            if name not in known:
                raise ConfigError(f"{name!r} is no setting of the engine; `serve --help` lists them all.")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """How the HTTP server listens and whom it lets in."""

    host: str = setting("127.0.0.1", "address to listen on", group="server")
    port: int = setting(8000, "port to listen on", group="server")
    uds: str | None = setting(None, "unix socket instead of host and port", group="server")
    api_key: list[str] = setting([], "key(s) clients must send; also OPENLATHE_API_KEY", group="server")
    root_path: str = setting("", "path prefix of a reverse proxy", group="server")
    allowed_origins: list[str] = setting([], "JSON list of origins for CORS", group="server")
    uvicorn_log_level: str = setting("info", "log level of the HTTP server", choices=LOG_LEVELS, group="server")
    disable_uvicorn_access_log: bool = setting(False, "no line per HTTP request", group="server")
    enable_log_requests: bool = setting(False, "log every request's parameters", group="server")
    metrics_namespace: str = setting("openlathe", "prefix of metric names", group="server")
    max_num_queued_reqs: int = setting(10_000, "requests that may be in the server before 429", group="server")
    request_timeout: float = setting(0.0, "seconds a request may take; 0: no limit", group="server")
    engine_restarts: int = setting(0, "times a dead engine is started again", group="server")
    trust_request_chat_template: bool = setting(False, "requests may bring a chat template", group="server")
    enable_admin_routes: bool = setting(False, "serve /reset_prefix_cache and its like", group="server")
    ssl_keyfile: str | None = setting(None, "TLS key", group="server")
    ssl_certfile: str | None = setting(None, "TLS certificate", group="server")
    shutdown_timeout: float = setting(0.0, "seconds that running requests get on SIGTERM", group="server")

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"--port is {self.port}; give a number from 0 to 65535.")
        _at_least(self, 0, "request_timeout", "engine_restarts", "shutdown_timeout")
        _at_least(self, 1, "max_num_queued_reqs")
        _one_of(self, "uvicorn_log_level", LOG_LEVELS)
        _no_empty_word(self, "api_key")
        if not re.fullmatch(r"[a-zA-Z_]\w*", self.metrics_namespace, re.ASCII):
            raise ConfigError(
                f"--metrics-namespace is {self.metrics_namespace!r}; give letters, digits and underscores."
            )
        if self.root_path and (self.root_path[0] != "/" or self.root_path[-1] == "/"):
            raise ConfigError(f"--root-path is {self.root_path!r}; give a path like /prefix.")


def _at_least(config: Any, least: int, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and not value >= least:  # NaN is neither
            raise ConfigError(f"--{name.replace('_', '-')} is {value}; give a number of at least {least}.")


def _no_empty_word(config: Any, name: str) -> None:
    if not all(getattr(config, name)):
        raise ConfigError(f"--{name.replace('_', '-')} is empty; give a word, or leave the flag out.")


def _no_other_keys(config: Any, name: str, keys: tuple[str, ...]) -> None:
    """Either nothing is given, or a text for each of ``keys``."""
    value = getattr(config, name)
    if value and (sorted(value) != sorted(keys) or not all(isinstance(text, str) and text for text in value.values())):
        raise ConfigError(f"--{name.replace('_', '-')} is {value}; give {' and '.join(keys)}, each with a text.")


def _one_of(config: Any, name: str, choices: tuple[str, ...]) -> None:
    value = getattr(config, name)
    if value not in choices:
        raise ConfigError(f"--{name.replace('_', '-')} is {value!r}; choose one of {', '.join(choices)}.")
