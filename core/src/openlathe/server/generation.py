"""One HTTP request's sequences on the engine: the one stream that every API dialect encodes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from ..engine.messages import EngineRequest, SamplingParams
from ..frontend.choice import Choice, Delta
from ..spi.protocols import ParserContext, StreamParser
from .job import Job
from .record import Record
from .state import ParserFactory, ServerState

logger = logging.getLogger(__name__)

#: Stage of parsing -> the plan's slot for it.
_SLOTS = {"reasoning": "reasoning-parser", "tools": "tool-parser"}
#: (index of the choice, what is new about it), everything that came at one time.
Tick = list[tuple[int, Delta]]


async def generate(state: ServerState, job: Job) -> AsyncGenerator[Tick, None]:
    """Runs ``job``; each item is everything new since the last one. Close it to abort what still runs.

    Raises ``Overloaded``, ``InvalidRequest`` or ``EngineDeadError``.
    """
    count = job.choices
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
        arrival_time=job.arrival,
        priority=job.priority,
        cache_salt=job.cache_salt,
    )
    choice = _choice(state, job, request)
    record = Record(state, job, request)
    source = state.engine.generate(request)
    try:
        async for outputs in source:
            delta = choice.feed(outputs)
            record.add(delta)
            if delta.finish_reason is not None:
                await source.aclose()
                yield delta
                return
            yield delta
    except Exception:
        record.reason = "error"
        raise
    finally:
        await source.aclose()
        record.close(calls=choice.calls)


def _sampling_of(sampling: SamplingParams, answer: int) -> SamplingParams:
    if sampling.n == 1:
        return sampling
    seed = sampling.seed + answer if sampling.seed is not None else None
    return msgspec.structs.replace(sampling, n=1, seed=seed)


def _choice(state: ServerState, job: Job, request: EngineRequest) -> Choice:
    def on_parser_error(stage: str, error: Exception) -> None:
        _report_parser(state, stage, request.request_id, error)

    def parser(stage: str, factory: ParserFactory | None) -> StreamParser | None:
        if factory is None or not job.parse:
            return None
        context = ParserContext(
            tools=job.tools,
            prompt_tail=job.prompt_tail,
            added_tokens=state.added_tokens,
            options=state.plan.choices[_SLOTS[stage]].options,
        )
        try:
            return factory(context)
        except Exception as error:  # a plugin's fault must not cost the request
            on_parser_error(stage, error)
            return None

    return Choice(
        state.tokenizer,
        request.prompt_token_ids,
        request.sampling,
        reasoning=parser("reasoning", state.reasoning_parser),
        tools=parser("tools", state.tool_parser if job.tools else None),
        single_call=job.single_call,
        on_parser_error=on_parser_error,
    )


def _report_parser(state: ServerState, stage: str, request_id: str, error: Exception) -> None:
    chosen = state.plan.choices[_SLOTS[stage]]
    state.metrics.count("parser_failures", 1, stage, chosen.name)
    logger.error(
        f"The {chosen.kind} {chosen.name} of {chosen.distribution} {chosen.version} raised in request {request_id}, "
        "whose text goes out unparsed.",
        exc_info=error,
    )
