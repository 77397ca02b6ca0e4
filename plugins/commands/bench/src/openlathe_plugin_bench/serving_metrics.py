"""From the outcomes of requests to the figures of vLLM's ``bench serve``, by its names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from .figures import deviation, mean, percent, percentile
from .load import most_at_once
from .openai import Outcome
from .report import Line

#: Metric -> (name in the table, heading of its part).
TITLES = {
    "ttft": ("TTFT", "Time to First Token"),
    "tpot": ("TPOT", "Time per Output Token (excl. 1st token)"),
    "itl": ("ITL", "Inter-token Latency"),
    "e2el": ("E2EL", "End-to-end Latency"),
}


def metrics(outcomes: Sequence[Outcome]) -> dict[str, list[float]]:
    """Milliseconds of every metric: one value a request, and for ``itl`` one for each token behind the first."""
    good = [outcome for outcome in outcomes if outcome.success]
    return {
        "ttft": [1e3 * outcome.ttft for outcome in good],
        "tpot": [1e3 * _tpot(outcome) for outcome in good if _tokens(outcome) > 1],
        "itl": [1e3 * gap for outcome in good for gap in outcome.itls],
        "e2el": [1e3 * outcome.latency for outcome in good],
    }


def totals(outcomes: Sequence[Outcome], duration: float, goodput: Mapping[str, float]) -> dict[str, Any]:
    """Counts and rates; ``goodput`` holds the most milliseconds that a good request may take, by metric."""
    good = [outcome for outcome in outcomes if outcome.success]
    inputs = sum(outcome.sample.prompt_len for outcome in good)
    outputs = sum(map(_tokens, good))
    return {
        "duration": duration,
        "completed": len(good),
        "failed": len(outcomes) - len(good),
        "total_input_tokens": inputs,
        "total_output_tokens": outputs,
        "request_throughput": len(good) / duration,
        "request_goodput": sum(_keeps(outcome, goodput) for outcome in good) / duration if goodput else None,
        "output_throughput": outputs / duration,
        "total_token_throughput": (inputs + outputs) / duration,
        "max_output_tokens_per_s": _busiest_second(good),
        "max_concurrent_requests": most_at_once([(one.started, one.started + one.latency) for one in good]),
    }


def summaries(
    measured: Mapping[str, Sequence[float]], names: Sequence[str], shares: Sequence[float]
) -> dict[str, float]:
    """``mean_ttft_ms``, ``median_ttft_ms``, ``std_ttft_ms``, ``p99_ttft_ms``, ... of the metrics in ``names``."""
    found = {}
    for name in names:
        values = measured[name]
        found[f"mean_{name}_ms"] = mean(values)
        found[f"median_{name}_ms"] = percentile(values, 50) if values else 0.0
        found[f"std_{name}_ms"] = deviation(values)
        for share in shares:
            found[f"p{percent(share)}_{name}_ms"] = percentile(values, share) if values else 0.0
    return found


def details(outcomes: Sequence[Outcome]) -> dict[str, list[Any]]:
    """One entry for each request, in the order in which they were sent."""
    return {
        "input_lens": [outcome.sample.prompt_len for outcome in outcomes],
        "output_lens": [_tokens(outcome) for outcome in outcomes],
        "ttfts": [outcome.ttft for outcome in outcomes],
        "itls": [outcome.itls for outcome in outcomes],
        "generated_texts": [outcome.text for outcome in outcomes],
        "errors": [outcome.error for outcome in outcomes],
    }


def lines(figures: Mapping[str, Any], names: Sequence[str], shares: Sequence[float]) -> list[Line]:
    """The table, from what :func:`totals` and :func:`summaries` have."""
    shown: list[Line] = [("Successful requests:", figures["completed"]), ("Failed requests:", figures["failed"])]
    if figures["max_concurrency"] is not None:
        shown.append(("Maximum request concurrency:", figures["max_concurrency"]))
    if figures["request_rate"] != "inf":
        shown.append(("Request rate configured (RPS):", figures["request_rate"]))
    shown += [
        ("Benchmark duration (s):", figures["duration"]),
        ("Total input tokens:", figures["total_input_tokens"]),
        ("Total generated tokens:", figures["total_output_tokens"]),
        ("Request throughput (req/s):", figures["request_throughput"]),
    ]
    if figures["request_goodput"] is not None:
        shown.append(("Request goodput (req/s):", figures["request_goodput"]))
    shown += [
        ("Output token throughput (tok/s):", figures["output_throughput"]),
        ("Peak output token throughput (tok/s):", figures["max_output_tokens_per_s"]),
        ("Peak concurrent requests:", figures["max_concurrent_requests"]),
        ("Total Token throughput (tok/s):", figures["total_token_throughput"]),
    ]
    for name in names:
        short, heading = TITLES[name]
        shown += [
            heading,
            (f"Mean {short} (ms):", figures[f"mean_{name}_ms"]),
            (f"Median {short} (ms):", figures[f"median_{name}_ms"]),
            *((f"P{percent(share)} {short} (ms):", figures[f"p{percent(share)}_{name}_ms"]) for share in shares),
        ]
    return shown


def _tokens(outcome: Outcome) -> int:
    """Of the answer; a chunk is taken for a token where nobody has counted."""
    return len(outcome.pieces) if outcome.output_len is None else outcome.output_len


def _tpot(outcome: Outcome) -> float:
    tokens = _tokens(outcome)
    return (outcome.latency - outcome.ttft) / (tokens - 1) if tokens > 1 else 0.0


def _keeps(outcome: Outcome, goodput: Mapping[str, float]) -> bool:
    taken = {"ttft": outcome.ttft, "tpot": _tpot(outcome), "e2el": outcome.latency}
    return all(1e3 * taken[name] <= most for name, most in goodput.items())


def _busiest_second(outcomes: Sequence[Outcome]) -> float:
    """The most tokens that arrived within one second of those counted from the first request on."""
    if not outcomes:
        return 0.0
    origin = min(outcome.started for outcome in outcomes)
    seconds: defaultdict[int, float] = defaultdict(float)
    for outcome in outcomes:
        tokens_per_chunk = _tokens(outcome) / (1 + len(outcome.itls))
        for moment in accumulate(outcome.itls, initial=outcome.started + outcome.ttft):
            seconds[int(moment - origin)] += tokens_per_chunk
    return max(seconds.values())
