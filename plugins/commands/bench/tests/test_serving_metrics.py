"""The figures of a load, by vLLM's names, worked out by hand."""

from __future__ import annotations

import pytest
from openlathe_plugin_bench.datasets import Sample
from openlathe_plugin_bench.openai import Outcome
from openlathe_plugin_bench.serving_metrics import details, lines, metrics, summaries, totals

OUTCOMES = [
    Outcome(
        Sample([1] * 10, "", 3), 0.0, ttft=0.5, itls=[0.25, 0.25], latency=1.0, output_len=3, pieces=["a", "b", "c"]
    ),
    Outcome(Sample([1] * 20, "", 5), 1.0, ttft=1.0, itls=[1.0], latency=2.0, output_len=5, pieces=["ab", "cde"]),
    Outcome(Sample([1] * 30, "", 1), 1.5, ttft=0.1, latency=0.1, pieces=["x"]),
    Outcome(Sample([1] * 40, "", 1), 1.5, error="refused"),
]


def test_metrics() -> None:
    assert metrics(OUTCOMES) == {
        "ttft": [500.0, 1000.0, 100.0],
        "tpot": [250.0, 250.0],  # one token has no next
        "itl": [250.0, 250.0, 1000.0],
        "e2el": [1000.0, 2000.0, 100.0],
    }


def test_totals() -> None:
    assert totals(OUTCOMES, 3.0, {"ttft": 600, "e2el": 1500}) == {
        "duration": 3.0,
        "completed": 3,
        "failed": 1,
        "total_input_tokens": 60,
        "total_output_tokens": 9,
        "request_throughput": 1.0,
        "request_goodput": pytest.approx(2 / 3),
        "output_throughput": 3.0,
        "total_token_throughput": 23.0,
        "max_output_tokens_per_s": 2.5,  # half of the second's five tokens, at 2 and at 3 seconds
        "max_concurrent_requests": 2,
    }


def test_summaries() -> None:
    found = summaries(metrics(OUTCOMES), ["ttft", "itl"], [50, 99.9])
    assert set(found) == {
        f"{kind}_{name}_ms" for name in ("ttft", "itl") for kind in ("mean", "median", "std", "p50", "p99.9")
    }
    assert found["median_ttft_ms"] == found["p50_ttft_ms"] == 500.0
    assert summaries(metrics([]), ["tpot"], [99])["p99_tpot_ms"] == 0.0


def test_details_have_an_entry_for_each_request() -> None:
    found = details(OUTCOMES)
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(found, 4)
    assert found["errors"] == ["", "", "", "refused"]
    assert found["output_lens"] == [3, 5, 1, 0]


def test_names_of_the_table() -> None:
    figures = {"max_concurrency": 4, "request_rate": 2.0, **totals(OUTCOMES, 3.0, {"ttft": 600})}
    figures |= summaries(metrics(OUTCOMES), ["ttft", "e2el"], [99])
    shown = [line if isinstance(line, str) else line[0] for line in lines(figures, ["ttft", "e2el"], [99])]
    assert shown == [
        "Successful requests:",
        "Failed requests:",
        "Maximum request concurrency:",
        "Request rate configured (RPS):",
        "Benchmark duration (s):",
        "Total input tokens:",
        "Total generated tokens:",
        "Request throughput (req/s):",
        "Request goodput (req/s):",
        "Output token throughput (tok/s):",
        "Peak output token throughput (tok/s):",
        "Peak concurrent requests:",
        "Total Token throughput (tok/s):",
        "Time to First Token",
        "Mean TTFT (ms):",
        "Median TTFT (ms):",
        "P99 TTFT (ms):",
        "End-to-end Latency",
        "Mean E2EL (ms):",
        "Median E2EL (ms):",
        "P99 E2EL (ms):",
    ]
