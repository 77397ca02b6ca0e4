"""One HTTP request's sequences on the engine: the one stream that every API dialect encodes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..engine.messages import EngineRequest, SamplingParams
from ..frontend.choice import Choice, Delta
from ..spi.protocols import FinishedRequest, ParserContext, StreamParser
from .state import ParserFactory, ServerState

logger = logging.getLogger(__name__)

#: (index of the choice, what is new about it), everything that came at one time.
Tick = list[tuple[int, Delta]]


@dataclass(kw_only=True)
class Job:
    """What one HTTP request asks of the engine.

    Every prompt (token ids) is answered ``sampling.n`` times; choice ``p * n + i`` is answer i to prompt p.
    ``parse`` runs the model's parsers; ``prompt_tail`` is the end of the rendered prompt. ``model`` is the name that
    the client used. ``cached_tokens`` and ``output_tokens`` grow while the stream runs.
    """

    request_id: str
    model: str
    prompts: Sequence[list[int]]
    sampling: SamplingParams
    priority: int = 0
    cache_salt: str | None = None
    parse: bool = False
    tools: Sequence[Mapping[str, Any]] = ()
    single_call: bool = False
    prompt_tail: str = ""
    streamed: bool = False
    arrival: float = field(default_factory=time.monotonic)
    cached_tokens: int = 0
    output_tokens: int = 0

    @property
    def prompt_tokens(self) -> int:
        return sum(map(len, self.prompts))


async def generate(state: ServerState, job: Job) -> AsyncGenerator[Tick, None]:
    """Runs ``job``; each item is everything new since the last one. Close it to abort what still runs.

    Raises ``Overloaded``, ``InvalidRequest`` or ``EngineDeadError``.
    """
    count = job.sampling.n * len(job.prompts)
    with state.admitted(job.request_id, count) as request_id:
        state.metrics.observe("request_params_n", job.sampling.n)
        if state.config.enable_log_requests:
            lengths = [len(prompt) for prompt in job.prompts]
            logger.info("Request %s: prompts of %s tokens, %s.", request_id, lengths, job.sampling)
        sequences = [_sequence(state, job, f"{request_id}-{index}", index) for index in range(count)]
        stream = _alone(sequences[0]) if count == 1 else _together(sequences)
        async with aclosing(stream):
            async for tick in stream:
                for index, delta in tick:
                    job.output_tokens += len(delta.token_ids)
                    if delta.cached_tokens and index % job.sampling.n == 0:
                        job.cached_tokens += delta.cached_tokens
                yield tick


async def _alone(sequence: AsyncGenerator[Delta, None]) -> AsyncGenerator[Tick, None]:
    async with aclosing(sequence):
        async for delta in sequence:
            yield [(0, delta)]


async def _together(sequences: list[AsyncGenerator[Delta, None]]) -> AsyncGenerator[Tick, None]:
    """Several sequences as one stream; the first that fails ends them all."""
    arrived: asyncio.Queue[tuple[int, Delta | Exception | None]] = asyncio.Queue()

    async def pump(index: int, sequence: AsyncGenerator[Delta, None]) -> None:
        try:
            async with aclosing(sequence):
                async for delta in sequence:
                    arrived.put_nowait((index, delta))
            arrived.put_nowait((index, None))
        except Exception as error:
            arrived.put_nowait((index, error))

    tasks = [asyncio.create_task(pump(*item)) for item in enumerate(sequences)]
    running = len(tasks)
    try:
        while running:
            items = [await arrived.get()]
            while not arrived.empty():
                items.append(arrived.get_nowait())
            for _, item in items:
                if isinstance(item, Exception):
                    raise item
            running -= sum(item is None for _, item in items)
            if tick := [(index, item) for index, item in items if isinstance(item, Delta)]:
                yield tick
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _sequence(state: ServerState, job: Job, request_id: str, index: int) -> AsyncGenerator[Delta, None]:
    """The deltas of one choice, the last with its finish reason; the engine is told at once where it ends early."""
    prompt = job.prompts[index // job.sampling.n]
    request = EngineRequest(
        request_id=request_id,
        prompt_token_ids=prompt,
        sampling=_sampling_of(job.sampling, index % job.sampling.n),
        eos_token_ids=list(state.defaults.eos_token_ids),
        priority=job.priority,
        cache_salt=job.cache_salt,
    )
    choice = _choice(state, job, request)
    record = _Record(state, job, request)
    source = state.engine.generate(request)
    try:
        async for outputs in source:
            delta = choice.feed(outputs)
            record.add(delta)
            if delta.finish_reason is not None:
                await source.aclose()  # type: ignore[attr-defined]
                yield delta
                return
            yield delta
    except Exception:
        record.reason = "error"
        raise
    finally:
        await source.aclose()  # type: ignore[attr-defined]
        record.close(calls=choice.calls)


def _sampling_of(sampling: SamplingParams, answer: int) -> SamplingParams:
    if sampling.n == 1:
        return sampling
    seed = sampling.seed + answer if sampling.seed is not None else None
    return msgspec.structs.replace(sampling, n=1, seed=seed)


def _choice(state: ServerState, job: Job, request: EngineRequest) -> Choice:
    def on_parser_error(stage: str, error: Exception) -> None:
        _report_parser(state, stage, request.request_id, error)

    def parser(stage: str, slot: str, factory: ParserFactory | None) -> StreamParser | None:
        if factory is None:
            return None
        options = state.parser_options(slot)
        try:
            return factory(ParserContext(tools=job.tools, prompt_tail=job.prompt_tail, options=options))
        except Exception as error:  # a plugin's fault must not cost the request
            on_parser_error(stage, error)
            return None

    return Choice(
        state.tokenizer,
        request.prompt_token_ids,
        request.sampling,
        reasoning=parser("reasoning", "reasoning-parser", state.reasoning_parser if job.parse else None),
        tools=parser("tools", "tool-parser", state.tool_parser if job.parse and job.tools else None),
        single_call=job.single_call,
        on_parser_error=on_parser_error,
    )


def _report_parser(state: ServerState, stage: str, request_id: str, error: Exception) -> None:
    chosen = state.plan.choices["tool-parser" if stage == "tools" else "reasoning-parser"]
    state.metrics.count("parser_failures", 1, stage, chosen.name)
    logger.error(
        "The %s %s of %s %s raised in request %s, whose text goes out unparsed.",
        chosen.kind,
        chosen.name,
        chosen.distribution,
        chosen.version,
        request_id,
        exc_info=error,
    )


class _Record:
    """Times and counts of one sequence, on their way into the metrics and to the observers."""

    __slots__ = ("_cached", "_first", "_job", "_last", "_request", "_state", "_tokens", "reason")

    def __init__(self, state: ServerState, job: Job, request: EngineRequest) -> None:
        self._state, self._job, self._request = state, job, request
        self._first = self._last = 0.0
        self._tokens = self._cached = 0
        self.reason = "abort"

    def add(self, delta: Delta) -> None:
        metrics, count = self._state.metrics, len(delta.token_ids)
        self._cached = delta.cached_tokens or self._cached
        if delta.finish_reason is not None:
            self.reason = "stop" if delta.finish_reason == "tool_calls" else delta.finish_reason
        if not count:
            return
        now = time.monotonic()
        metrics.count("generation_tokens", count)
        if not self._first:
            self._first = now
            metrics.count("prompt_tokens", len(self._request.prompt_token_ids))
            metrics.count("prompt_tokens_cached", self._cached)
            metrics.observe("time_to_first_token_seconds", now - self._job.arrival)
        else:
            for name in ("inter_token_latency_seconds", "time_per_output_token_seconds"):
                metrics.observe(name, (now - self._last) / count, count)
        self._last = now
        self._tokens += count

    def close(self, *, calls: int) -> None:
        metrics, now = self._state.metrics, time.monotonic()
        total = now - self._job.arrival
        metrics.count("request_success", 1, self.reason)
        metrics.observe("e2e_request_latency_seconds", total)
        metrics.observe("request_prompt_tokens", len(self._request.prompt_token_ids))
        metrics.observe("request_generation_tokens", self._tokens)
        metrics.observe("request_params_max_tokens", self._request.sampling.max_tokens or 0)
        if self._tokens > 1:
            mean = (self._last - self._first) / (self._tokens - 1)
            metrics.observe("request_time_per_output_token_seconds", mean)
        if self._job.parse and self._job.tools and self._state.tool_parser is not None:
            mode = "streaming" if self._job.streamed else "non_streaming"
            metrics.count("tool_call_parser_invocations", 1, mode, "tool_call" if calls else "no_tool_call")
        self._state.on_finished(
            FinishedRequest(
                request_id=self._request.request_id,
                model=self._job.model,
                finish_reason=self.reason,
                prompt_tokens=len(self._request.prompt_token_ids),
                cached_tokens=self._cached,
                output_tokens=self._tokens,
                time_to_first_token=self._first - self._job.arrival if self._first else None,
                total_time=total,
            )
        )
