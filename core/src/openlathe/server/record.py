"""Times and counts of one sequence, on their way into the metrics and to the observers."""

from __future__ import annotations

import time

from ..engine.messages import EngineRequest
from ..frontend.choice import Delta
from ..spi.protocols import FinishedRequest
from .job import Job
from .state import ServerState


class Record:
    """Tokens and times of one sequence; ``reason`` is why it ended, ``abort`` until something else is known."""

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
