"""Requests sent at their times, no more at once than allowed."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TypeVar

T = TypeVar("T")
Send = Callable[[int], Awaitable[T]]


def arrivals(count: int, rate: float, burstiness: float, seed: int) -> list[float]:
    """Seconds from the start at which each of ``count`` requests is sent, the first at 0; equal for an equal seed.

    Gaps are drawn from a gamma distribution of shape ``burstiness`` and mean 1 / ``rate``: shape 1 is a Poisson
    process, less comes in bursts, more evenly. They are scaled so that the whole takes (count - 1) / rate exactly,
    lest chance change the load. ``rate`` infinity sends all at once.
    """
    if math.isinf(rate) or count < 2:
        return [0.0] * count
    drawn = random.Random(seed)
    times = [0.0, *itertools.accumulate(drawn.gammavariate(burstiness, 1.0) for _ in range(count - 1))]
    scale = (count - 1) / rate / times[-1]
    return [moment * scale for moment in times]


async def send_all(
    send: Send[T], times: Sequence[float], max_concurrency: int | None, done: Callable[[], object]
) -> tuple[list[T], float]:
    """Answers of ``send(index)``, begun at the times given, and the seconds from the first to the last.

    Times are absolute, so that no delay adds to the next. A request waits where ``max_concurrency`` others run; its
    own clock starts when it is sent. ``done`` is called when an answer is complete.
    """
    loop = asyncio.get_running_loop()
    gate: AbstractAsyncContextManager[object] = asyncio.Semaphore(max_concurrency) if max_concurrency else nullcontext()

    async def one(index: int) -> T:
        async with gate:
            answer = await send(index)
        done()
        return answer

    started, origin = time.perf_counter(), loop.time()
    tasks = []
    async with asyncio.TaskGroup() as group:
        for index, moment in enumerate(times):
            if (delay := origin + moment - loop.time()) > 0:
                await asyncio.sleep(delay)
            tasks.append(group.create_task(one(index)))
    return [task.result() for task in tasks], time.perf_counter() - started


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    """How many of the (begin, end) overlap at most."""
    changes = sorted(_changes(spans))
    return max(itertools.accumulate(change for _, change in changes), default=0)


def _changes(spans: Sequence[tuple[float, float]]) -> Iterator[tuple[float, int]]:
    for begin, end in spans:
        yield begin, 1
        yield end, -1
