"""When what ran: functions are wrapped so that their calls are noted, thread by thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import Any

PART, OPERATOR, BATCH = "part", "operator", "batch"
#: What a step does, by which its times are told apart.
PREFILL, DECODE = "prefill", "decode"


@dataclass(frozen=True, slots=True)
class Span:
    """One call; times in seconds of ``time.perf_counter``, ``own`` without the noted calls of its category within."""

    name: str
    category: str
    phase: str
    thread: str
    begin: float
    seconds: float
    own: float


class _Thread(threading.local):
    """What runs in a thread now: its phase, and for each category the seconds that inner calls have taken so far."""

    def __init__(self) -> None:
        self.phase = PREFILL
        self.inner: dict[str, list[float]] = {PART: [], OPERATOR: [], BATCH: []}


class Recorder:
    """Notes calls while it is ``on``; what it wraps costs about a microsecond a call then, and little before."""

    def __init__(self) -> None:
        self.on = False
        self.spans: list[Span] = []
        self._here = _Thread()

    def set_phase(self, phase: str) -> None:
        """What the calling thread's calls belong to from now on."""
        self._here.phase = phase

    def timed(self, name: str, category: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, whose calls are noted under ``name``."""

        @wraps(function, updated=())
        def run(*args: Any, **kwargs: Any) -> Any:
            if not self.on:
                return function(*args, **kwargs)
            inner = self._here.inner[category]
            inner.append(0.0)
            begin = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                seconds = time.perf_counter() - begin
                own = seconds - inner.pop()
                if inner:
                    inner[-1] += seconds
                thread = threading.current_thread().name
                self.spans.append(Span(name, category, self._here.phase, thread, begin, seconds, own))

        return run


def chrome_trace(spans: Iterable[Span]) -> dict[str, Any]:
    """The spans in the Trace Event Format that chrome://tracing and https://ui.perfetto.dev read."""
    threads: dict[str, int] = {}
    events: list[dict[str, Any]] = [
        {
            "name": span.name,
            "cat": span.category,
            "ph": "X",
            "pid": 1,
            "tid": threads.setdefault(span.thread, len(threads) + 1),
            "ts": 1e6 * span.begin,
            "dur": 1e6 * span.seconds,
            "args": {"phase": span.phase},
        }
        for span in sorted(spans, key=lambda span: (span.begin, -span.seconds))
    ]
    names = [
        {"name": "thread_name", "ph": "M", "pid": 1, "tid": number, "args": {"name": thread}}
        for thread, number in threads.items()
    ]
    return {"traceEvents": names + events, "displayTimeUnit": "ms"}
