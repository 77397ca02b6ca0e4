"""What every route needs: the engine, the frontend's parts, the metrics, and who may come in."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from ..config import ServerConfig
from ..engine.messages import EngineDead, EngineOutputs, EngineRequest, EngineStats, RequestOutput
from ..frontend.defaults import GenerationDefaults
from ..frontend.render import ChatRenderer
from ..frontend.tokenize import Tokenizer
from ..plugins.plan import Plan
from ..spi.errors import EngineDeadError, InvalidRequest
from ..spi.protocols import EngineInfo, FinishedRequest, ParserContext, StreamParser
from .errors import Overloaded
from .metrics import Metrics

#: Characters from which tokenising takes longer than handing it to a thread.
LONG_TEXT = 8192

ParserFactory = Callable[[ParserContext], StreamParser]


class Engine(Protocol):
    """What the server asks of an engine client."""

    stats: EngineStats
    dead: EngineDead | None
    facts: Mapping[str, Any]

    def generate(self, request: EngineRequest) -> AsyncGenerator[list[RequestOutput], None]: ...

    async def call(self, method: str, *args: Any) -> Any: ...

    def add_listener(self, listener: Callable[[EngineOutputs], None]) -> None: ...


@dataclass(kw_only=True)
class ServerState:
    """One per server; routes find it as ``request.app.state.server``.

    ``renderer`` is None where no chat template is known; ``on_finished`` is told of every sequence that ended.
    """

    plan: Plan
    config: ServerConfig
    engine: Engine
    tokenizer: Tokenizer
    renderer: ChatRenderer | None
    defaults: GenerationDefaults
    metrics: Metrics
    on_finished: Callable[[FinishedRequest], None] = lambda record: None
    created: int = field(default_factory=lambda: int(time.time()))
    in_flight: int = 0
    _stopping: bool = False
    _tasks: dict[str, asyncio.Task[Any] | None] = field(default_factory=dict)

    @property
    def model_name(self) -> str:
        return self.plan.config.served_names[0]

    @property
    def info(self) -> EngineInfo:
        names = self.plan.config.served_names
        return EngineInfo(model=self.model_name, served_names=names, plan=self.plan.to_dict())

    def prepare(self) -> None:
        """Imports what the first request would otherwise wait for; raises ``PluginError`` for a broken parser."""
        _ = self.vocab_size, self.tool_parser, self.reasoning_parser

    def engine_started(self) -> None:
        config, facts = self.plan.config, self.engine.facts
        self.metrics.cache_config = {
            "block_size": self.plan.block_size,
            "cache_dtype": self.plan.kv_dtype,
            "enable_prefix_caching": config.enable_prefix_caching,
            "gpu_memory_utilization": config.gpu_memory_utilization,
            "num_gpu_blocks": facts.get("num_blocks", 0),
        }
        self.engine.add_listener(self.metrics.on_engine)

    @cached_property
    def vocab_size(self) -> int:
        """The model understands token ids below this one."""
        return self.plan.model_config().vocab_size

    @cached_property
    def added_tokens(self) -> frozenset[str]:
        """The texts that arrive as tokens of their own, so that text which merely looks like one is not a marker."""
        return frozenset(token.text for token in self.tokenizer.added_tokens.values())

    @cached_property
    def tool_parser(self) -> ParserFactory | None:
        return self._parser_factory("tool-parser")

    @cached_property
    def reasoning_parser(self) -> ParserFactory | None:
        return self._parser_factory("reasoning-parser")

    def _parser_factory(self, slot: str) -> ParserFactory | None:
        factory: ParserFactory | None = self.plan.resolve(slot) if slot in self.plan.choices else None
        return factory

    def served_model(self, name: str | None) -> str:
        """The name an answer carries; raises a 404 ``InvalidRequest`` for a model that is not served."""
        names = self.plan.config.served_names
        if not name:
            return names[0]
        if name not in names:
            served = " and ".join(repr(known) for known in names)
            raise InvalidRequest(
                f"The model {name!r} is not served here; this server has {served}.",
                param="model",
                status=404,
                code="model_not_found",
            )
        return name

    async def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The ids of ``text``; long texts are tokenised in a thread, so that other requests' tokens do not wait."""
        if len(text) < LONG_TEXT:
            return self.tokenizer.encode(text, add_special_tokens=add_special_tokens)
        return await asyncio.to_thread(self.tokenizer.encode, text, add_special_tokens=add_special_tokens)

    def check_alive(self) -> None:
        """Raises ``EngineDeadError`` once the engine has died or :meth:`interrupt` was called."""
        if self._stopping:
            raise EngineDeadError("The server is stopping; send the request again later.")
        if self.engine.dead is not None:
            raise EngineDeadError(f"The engine is not running any more: {self.engine.dead.reason}")

    @contextmanager
    def admitted(self, request_id: str, sequences: int) -> Iterator[str]:
        """Counts ``sequences`` in while the block runs, and yields an id that no other request in here has.

        Raises ``Overloaded`` where they are too many (a request alone always gets in) and ``EngineDeadError``.
        """
        self.check_alive()
        limit = self.config.max_num_queued_reqs
        if self.in_flight and self.in_flight + sequences > limit:
            self.metrics.count("admission_rejections")
            raise Overloaded(limit)
        if request_id in self._tasks:
            request_id = f"{request_id}-{uuid.uuid4().hex[:8]}"
        self.in_flight += sequences
        self._tasks[request_id] = asyncio.current_task()
        try:
            yield request_id
        except asyncio.CancelledError:
            self.check_alive()
            raise
        finally:
            self.in_flight -= sequences
            del self._tasks[request_id]

    def interrupt(self) -> None:
        """Ends every request with an error its client can read; none is admitted any more."""
        self._stopping = True
        for task in {task for task in self._tasks.values() if task is not None}:
            task.cancel()
