"""One HTTP request's sequences on the engine: the one stream that every API dialect encodes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from ..engine.messages import EngineRequest
from ..frontend.answers import params_of, ranking
from ..frontend.choice import Delta
from ..spi.errors import InvalidRequest
from .beams import beam_answers
from .choices import make_choice
from .job import Job, Tick
from .record import Record, count_answers
from .state import ServerState

logger = logging.getLogger(__name__)


async def generate(state: ServerState, job: Job) -> AsyncGenerator[Tick, None]:
    """Runs ``job``; each item is everything new since the last one. Close it to abort what still runs.

    Raises ``Overloaded``, ``InvalidRequest`` or ``EngineDeadError``.
    """
    _check_stream(job)
    sequences = job.sequences * len(job.prompts)
    with state.admitted(job.request_id, sequences, arrival=job.arrival, timeout=job.timeout) as request_id:
        if state.config.enable_log_requests:
            lengths = [len(prompt) for prompt in job.prompts]
            logger.info("Request %s: prompts of %s tokens, %s.", request_id, lengths, job.beam or job.sampling)
        try:
            async with aclosing(_together(_streams(state, job, request_id))) as stream:
                async for tick in stream:
                    for _, delta in tick:
                        job.output_tokens += len(delta.token_ids)
                    yield tick
        finally:
            count_answers(state, job)


def _check_stream(job: Job) -> None:
    if job.streamed and (job.beam is not None or job.sequences > job.sampling.n):
        cause = "best_of above n" if job.beam is None else "use_beam_search"
        raise InvalidRequest(f"With {cause} nothing is decided before the end; leave stream out.", param="stream")


def _streams(state: ServerState, job: Job, request_id: str) -> list[AsyncGenerator[Tick, None]]:
    """One stream for each sequence, or for each prompt where its sequences compete."""
    prompts = range(len(job.prompts))
    if job.beam is not None:
        return [beam_answers(state, job, request_id, prompt) for prompt in prompts]
    if job.sequences > job.sampling.n:
        return [_best(state, job, request_id, prompt) for prompt in prompts]
    return [_sequence(state, job, request_id, index) for index in range(job.choices)]


async def _best(state: ServerState, job: Job, request_id: str, prompt: int) -> AsyncGenerator[Tick, None]:
    """The ``n`` best of a prompt's ``best_of`` sequences when all have ended; all count as output."""
    first = prompt * job.sequences
    wholes = [Delta() for _ in range(job.sequences)]
    rivals = [_sequence(state, job, request_id, first + place) for place in range(job.sequences)]
    async with aclosing(_together(rivals)) as stream:
        async for tick in stream:
            for index, delta in tick:
                wholes[index - first].add(delta)
    order = ranking([whole.logprobs for whole in wholes])
    best, others = order[: job.sampling.n], order[job.sampling.n :]
    job.output_tokens += sum(len(wholes[place].token_ids) for place in others)
    yield [(prompt * job.sampling.n + answer, wholes[place]) for answer, place in enumerate(best)]


def _together(streams: list[AsyncGenerator[Tick, None]]) -> AsyncGenerator[Tick, None]:
    """Several streams as one; the first that fails ends them all."""
    return streams[0] if len(streams) == 1 else _merged(streams)


async def _merged(streams: list[AsyncGenerator[Tick, None]]) -> AsyncGenerator[Tick, None]:
    arrived: asyncio.Queue[Tick | Exception | None] = asyncio.Queue()

    async def pump(stream: AsyncGenerator[Tick, None]) -> None:
        try:
            async with aclosing(stream):
                async for tick in stream:
                    arrived.put_nowait(tick)
            arrived.put_nowait(None)
        except Exception as error:
            arrived.put_nowait(error)

    tasks = [asyncio.create_task(pump(stream)) for stream in streams]
    running = len(tasks)
    try:
        while running:
            items = [await arrived.get()]
            while not arrived.empty():
                items.append(arrived.get_nowait())
            new: Tick = []
            for item in items:
                if isinstance(item, Exception):
                    raise item
                running -= item is None
                new += item or ()
            if new:
                yield new
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _sequence(state: ServerState, job: Job, request_id: str, index: int) -> AsyncGenerator[Tick, None]:
    """The deltas of one sequence, the last with its finish reason; the engine is told at once where it ends early.

    A prompt is computed for its first sequence; the others are forks of that one.
    """
    prompt, answer = divmod(index, job.sequences)
    request = EngineRequest(
        request_id=f"{request_id}-{index}",
        prompt_token_ids=job.prompts[prompt],
        sampling=params_of(job.sampling, answer),
        eos_token_ids=list(state.defaults.eos_token_ids),
        arrival_time=job.arrival,
        priority=job.priority,
        cache_salt=job.cache_salt,
        thinking_budget=job.thinking[prompt] if job.thinking else None,
        fork_of=f"{request_id}-{index - answer}" if answer else None,
    )
    choice = make_choice(state, job, request)
    record = Record(state, job, request, prompt)
    source = state.engine.generate(request)
    try:
        async for outputs in source:
            delta = choice.feed(outputs)
            record.add(delta)
            if not answer:
                job.cached_tokens += delta.cached_tokens or 0
            if delta.finish_reason is not None:
                await source.aclose()
                yield [(index, delta)]
                return
            yield [(index, delta)]
    except Exception:
        record.reason = "error"
        raise
    finally:
        await source.aclose()
        record.close(calls=choice.calls)
