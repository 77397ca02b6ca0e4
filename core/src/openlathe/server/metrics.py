"""Prometheus metrics, under vLLM's names so that its dashboards keep working.

Values are kept in plain numbers and lists and turned into metric families when ``/metrics`` is scraped, because a
lock per observation and token would cost more than everything else the server does for a token.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from ..engine.messages import EngineOutputs, EngineStats

_LONG = (10, 20, 40, 80, 160, 640, 2560)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, *_LONG)
_TTFT = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, *_LONG)
_BETWEEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10, 40, 80)
_TOKENS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000, 1000000)
_STEP = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_SMALL = (1, 2, 5, 10, 20)

#: Histogram -> (help, buckets).
HISTOGRAMS: dict[str, tuple[str, Sequence[float]]] = {
    "time_to_first_token_seconds": ("Time from arrival to the first token.", _TTFT),
    "inter_token_latency_seconds": ("Time between two tokens of a request.", _BETWEEN),
    "time_per_output_token_seconds": ("Older name of inter_token_latency_seconds.", _BETWEEN),
    "request_time_per_output_token_seconds": ("Mean time per token after the first, by request.", _BETWEEN),
    "e2e_request_latency_seconds": ("Time from arrival to the end of a request.", _SECONDS),
    "request_prompt_tokens": ("Prompt tokens of a request.", _TOKENS),
    "request_generation_tokens": ("Generated tokens of a request.", _TOKENS),
    "request_params_max_tokens": ("Tokens a request may generate.", _TOKENS),
    "request_params_n": ("Choices a request asks for.", _SMALL),
    "iteration_tokens_total": ("Tokens computed in a step.", _STEP),
}

#: Gauge -> help.
GAUGES: dict[str, str] = {
    "num_requests_running": "Requests in the running batch.",
    "num_requests_waiting": "Requests waiting for room.",
    "kv_cache_usage_perc": "Share of KV blocks in use, 1 is full.",
    "gpu_cache_usage_perc": "Older name of kv_cache_usage_perc.",
}

#: Counter -> (help, labels besides those every metric has).
COUNTERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "prompt_tokens": ("Prompt tokens processed.", ()),
    "prompt_tokens_cached": ("Prompt tokens that came from the prefix cache.", ()),
    "generation_tokens": ("Tokens generated.", ()),
    "request_success": ("Requests that ended, by reason.", ("finished_reason",)),
    "num_preemptions": ("Requests whose blocks were taken back.", ()),
    "prefix_cache_queries": ("Tokens looked up in the prefix cache.", ()),
    "prefix_cache_hits": ("Tokens found in the prefix cache.", ()),
    "gpu_prefix_cache_queries": ("Older name of prefix_cache_queries.", ()),
    "gpu_prefix_cache_hits": ("Older name of prefix_cache_hits.", ()),
    "admission_rejections": ("Requests refused because the server was full.", ()),
    "tool_call_parser_invocations": ("Choices whose text went through a tool parser.", ("mode", "outcome")),
    "parser_failures": ("Choices whose parser raised and whose text was delivered raw.", ("stage", "parser")),
}

#: Counter -> its name in the engine's statistics, which count since the engine's start.
_OF_ENGINE = {
    "num_preemptions": "preemptions",
    "prefix_cache_queries": "prefix_queries",
    "prefix_cache_hits": "prefix_hits",
    "gpu_prefix_cache_queries": "prefix_queries",
    "gpu_prefix_cache_hits": "prefix_hits",
}
FINISHED_REASONS = ("stop", "length", "abort", "error")


class Histogram:
    """Counts by bucket, and their sum."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self._counts[bisect_left(self._bounds, value)] += times
        self._sum += value * times

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulated (upper bound, count) pairs and the sum of all values."""
        total, pairs = 0, []
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            pairs.append(("+Inf" if bound == float("inf") else repr(float(bound)), float(total)))
        return pairs, self._sum


class Metrics(Collector):
    """All metrics of one server; ``text`` is what ``/metrics`` answers.

    ``cache_config`` becomes the labels of ``cache_config_info``.
    """

    def __init__(self, namespace: str, model_name: str) -> None:
        self._prefix = f"{namespace}:"
        self._labels = {"model_name": model_name, "engine": "0"}
        self.cache_config: Mapping[str, Any] = {}
        self._histograms = {name: Histogram(bounds) for name, (_, bounds) in HISTOGRAMS.items()}
        self._counters: dict[str, Counter[tuple[str, ...]]] = {name: Counter() for name in COUNTERS}
        for reason in FINISHED_REASONS:
            self._counters["request_success"][reason,] = 0
        self._stats = EngineStats()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def count(self, name: str, amount: float = 1, *labels: str) -> None:
        self._counters[name][labels] += amount  # type: ignore[assignment]

    def observe(self, name: str, value: float, times: int = 1) -> None:
        self._histograms[name].observe(value, times)

    def on_engine(self, message: EngineOutputs) -> None:
        """Called once per message of the engine."""
        if message.stats is not None:
            self.on_stats(message.stats)

    def on_stats(self, stats: EngineStats) -> None:
        if stats.steps != self._stats.steps and stats.step_tokens:
            self.observe("iteration_tokens_total", stats.step_tokens)
        self._stats = stats

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        labels, values = list(self._labels), list(self._labels.values())
        for name, value in self._gauges().items():
            gauge = GaugeMetricFamily(self._prefix + name, GAUGES[name], labels=labels)
            gauge.add_metric(values, value)
            yield gauge
        info = {**self._labels, **{name: str(value) for name, value in self.cache_config.items()}}
        config = GaugeMetricFamily(self._prefix + "cache_config_info", "The KV cache.", labels=list(info))
        config.add_metric(list(info.values()), 1)
        yield config
        for name, statistic in _OF_ENGINE.items():
            self._counters[name][()] = getattr(self._stats, statistic)
        for name, (help, more) in COUNTERS.items():
            counter = CounterMetricFamily(self._prefix + name, help, labels=[*labels, *more])
            for key, number in (self._counters[name] or ({} if more else {(): 0})).items():
                counter.add_metric([*values, *key], number)
            yield counter
        for name, (help, _) in HISTOGRAMS.items():
            histogram = HistogramMetricFamily(self._prefix + name, help, labels=labels)
            histogram.add_metric(values, *self._histograms[name].buckets())
            yield histogram

    def _gauges(self) -> dict[str, float]:
        stats = self._stats
        used = 1 - stats.free_blocks / stats.total_blocks if stats.total_blocks else 0.0
        return {
            "num_requests_running": stats.running,
            "num_requests_waiting": stats.waiting,
            "kv_cache_usage_perc": used,
            "gpu_cache_usage_perc": used,
        }
