"""Metrics: the names of vLLM's dashboards, and numbers that add up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from openlathe.engine.messages import EngineOutputs, EngineStats
from openlathe.server.metrics import Histogram, Metrics


def read(text: str, namespace: str = "openlathe") -> dict[str, Any]:
    """Sample name and labels (without those all have) -> value."""
    values: dict[str, Any] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.startswith(f"{namespace}:"):
                continue
            labels = {name: value for name, value in sample.labels.items() if name not in ("model_name", "engine")}
            assert sample.labels["model_name"] == "tiny"
            name = sample.name.removeprefix(f"{namespace}:")
            values[name + "".join(f",{key}={value}" for key, value in sorted(labels.items()))] = sample.value
    return values


def test_requests_show(server: Any) -> None:
    server.chat(max_tokens=3, n=2)
    server.complete([1, 2, 3], max_tokens=2, stream=True)
    values = read(server.get("/metrics").text)
    prompt = len(server.engine.requests[0].prompt_token_ids)
    assert values["generation_tokens_total"] == 8
    assert values["prompt_tokens_total"] == 2 * prompt + 3
    assert values["request_success_total,finished_reason=length"] == 3
    assert values["request_success_total,finished_reason=error"] == 0
    assert values["time_to_first_token_seconds_count"] == values["e2e_request_latency_seconds_count"] == 3
    assert values["inter_token_latency_seconds_count"] == 8 - 3
    assert values["request_generation_tokens_sum"] == 8
    assert values["request_prompt_tokens_sum"] == values["prompt_tokens_total"]
    assert values["request_params_n_sum"] == 3
    assert values["request_params_max_tokens_sum"] == 8


def test_gauges_are_those_of_now(server: Any) -> None:
    server.engine.running.update({"a", "b"})
    values = read(server.get("/metrics").text)
    server.engine.running.clear()
    assert values["num_requests_running"] == 2
    assert values["kv_cache_usage_perc"] == values["gpu_cache_usage_perc"] == 0.25


def test_engine_statistics() -> None:
    metrics = Metrics("vllm", "tiny")
    metrics.cache_config = {"block_size": 16}
    for steps, tokens in ((1, 7), (2, 1), (2, 1)):
        stats = EngineStats(steps=steps, step_tokens=tokens, prefix_queries=10, prefix_hits=4, preemptions=2, waiting=5)
        metrics.on_engine(EngineOutputs(stats=stats))
    metrics.on_engine(EngineOutputs())
    values = read(metrics.text().decode(), "vllm")
    assert values["iteration_tokens_total_count"] == 2
    assert values["iteration_tokens_total_sum"] == 8
    assert (values["prefix_cache_queries_total"], values["prefix_cache_hits_total"]) == (10, 4)
    assert (values["num_preemptions_total"], values["num_requests_waiting"]) == (2, 5)
    assert values["cache_config_info,block_size=16"] == 1


def test_tool_parsers_are_counted(server: Any, call_text: Any) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    server.engine.text = "<think>\n</think>" + call_text([("f", {})])
    server.chat(tools=tools)
    server.engine.text = "no call"
    server.chat(tools=tools, stream=True)
    server.chat()
    values = read(server.get("/metrics").text)
    name = "tool_call_parser_invocations_total"
    assert values[f"{name},mode=non_streaming,outcome=tool_call"] == 1
    assert values[f"{name},mode=streaming,outcome=no_tool_call"] == 1


@given(st.lists(st.tuples(st.floats(0, 10, allow_nan=False), st.integers(1, 5)), max_size=20))
def test_histograms_cumulate(observations: list[tuple[float, int]]) -> None:
    bounds = (0.5, 1.0, 4.0)
    histogram = Histogram(bounds)
    for value, times in observations:
        histogram.observe(value, times)
    buckets, total = histogram.buckets()
    for (bound, count), limit in zip(buckets, (*bounds, float("inf")), strict=True):
        assert float(bound) == limit
        assert count == sum(times for value, times in observations if value <= limit)
    assert total == pytest.approx(sum(value * times for value, times in observations))


def test_counters_never_fall(server: Any) -> None:
    def counters() -> Mapping[str, float]:
        return {name: value for name, value in read(server.get("/metrics").text).items() if "_total" in name}

    before = counters()
    server.chat()
    after = counters()
    assert before.keys() <= after.keys()
    assert all(after[name] >= value for name, value in before.items())
