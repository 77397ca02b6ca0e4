"""Times of arrival, and requests that keep to them."""

from __future__ import annotations

import asyncio
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openlathe_plugin_bench.load import arrivals, most_at_once, send_all


@given(count=st.integers(2, 50), rate=st.floats(0.1, 1000), burstiness=st.floats(0.1, 100), seed=st.integers(0, 2**32))
def test_arrivals_keep_the_rate(count: int, rate: float, burstiness: float, seed: int) -> None:
    times = arrivals(count, rate, burstiness, seed)
    assert times == sorted(times) == arrivals(count, rate, burstiness, seed)
    assert times[0] == 0.0
    assert times[-1] == pytest.approx((count - 1) / rate)


@pytest.mark.parametrize("burstiness", [0.5, 1.0, 4.0])
def test_gaps_are_gamma_distributed(burstiness: float) -> None:
    gaps = np.array([after - before for before, after in pairwise(arrivals(40_001, 10.0, burstiness, 0))])
    assert gaps.mean() == pytest.approx(0.1)
    assert gaps.std() / gaps.mean() == pytest.approx(burstiness**-0.5, rel=0.03)


def test_all_at_once() -> None:
    assert arrivals(3, math.inf, 1.0, 0) == [0.0] * 3


@pytest.mark.parametrize("limit, most", [(None, 5), (2, 2)])
def test_no_more_at_once_than_allowed(limit: int | None, most: int) -> None:
    running, seen, done = 0, [], []

    async def send(index: int) -> int:
        nonlocal running
        running += 1
        seen.append(running)
        await asyncio.sleep(0.001)
        running -= 1
        return index * index

    answers, seconds = asyncio.run(send_all(send, [0.0] * 5, limit, lambda: done.append(None)))
    assert answers == [0, 1, 4, 9, 16]
    assert max(seen) == most
    assert len(done) == 5
    assert seconds > 0


def test_nobody_is_sent_before_its_time() -> None:
    times = [0.0, 0.01, 0.02]

    async def run() -> list[float]:
        loop = asyncio.get_running_loop()
        origin = loop.time()

        async def send(_: int) -> float:
            return loop.time() - origin

        return (await send_all(send, times, None, lambda: None))[0]

    assert all(sent >= moment - 1e-3 for sent, moment in zip(asyncio.run(run()), times, strict=True))


@pytest.mark.parametrize(
    "spans, most",
    [([], 0), ([(0, 1)], 1), ([(0, 1), (1, 2)], 1), ([(0, 3), (1, 2), (1.5, 4)], 3), ([(0, 9), (1, 2), (3, 4)], 2)],
)
def test_most_at_once(spans: list[tuple[float, float]], most: int) -> None:
    assert most_at_once(spans) == most
