"""The profile: what it watches exists, times add up, a trace can be read."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from openlathe_plugin_bench.bench_profile import summary
from openlathe_plugin_bench.parts import CAPTURED, MEANINGS, PLACES, _operator, find, watched
from openlathe_plugin_bench.spans import BATCH, DECODE, OPERATOR, PART, PREFILL, Recorder, Span, chrome_trace

from openlathe.api import Plan
from openlathe.cli.main import main


@pytest.mark.parametrize("place", [place for places in PLACES.values() for place in places])
def test_what_is_watched_exists(place: str) -> None:
    owner, name = find(place)
    assert callable(getattr(owner, name))


def test_everything_is_as_before_afterwards() -> None:
    places = [find(place) for places in PLACES.values() for place in places] + [(Plan, "resolve")]
    before = [vars(owner)[name] for owner, name in places]
    with watched(Recorder()):
        assert all(vars(owner)[name] is not old for (owner, name), old in zip(places, before, strict=True))
    assert [vars(owner)[name] for owner, name in places] == before


def test_own_time_leaves_out_what_runs_within() -> None:
    recorder = Recorder()
    inner = recorder.timed("inner", PART, lambda: time.sleep(0.01))
    other = recorder.timed("operator", OPERATOR, inner)
    outer = recorder.timed("outer", PART, lambda: (inner(), other()))
    outer()
    assert recorder.spans == []
    recorder.on = True
    outer()
    spans = {span.name: span for span in recorder.spans}
    assert [span.name for span in recorder.spans] == ["inner", "inner", "operator", "outer"]
    within = sum(span.seconds for span in recorder.spans if span.name == "inner")
    assert spans["outer"].own == pytest.approx(spans["outer"].seconds - within)
    assert spans["operator"].own == spans["operator"].seconds


def test_a_call_that_raises_is_noted_and_forgotten() -> None:
    recorder = Recorder()
    recorder.on = True

    def fail() -> None:
        raise ValueError

    failing = recorder.timed("fails", PART, fail)

    def survive() -> None:
        with pytest.raises(ValueError):
            failing()

    recorder.timed("outer", PART, survive)()
    assert [span.name for span in recorder.spans] == ["fails", "outer"]
    assert recorder.spans[1].own < recorder.spans[1].seconds


def test_phases_belong_to_threads() -> None:
    recorder = Recorder()
    recorder.on = True
    noted = recorder.timed("noted", PART, lambda: None)
    recorder.set_phase(DECODE)
    noted()
    thread = threading.Thread(target=noted, name="other")
    thread.start()
    thread.join()
    assert [(span.phase, span.thread == "other") for span in recorder.spans] == [(DECODE, False), (PREFILL, True)]


def span(name: str, begin: float, seconds: float, phase: str = DECODE, **changes: Any) -> Span:
    values = {"category": PART, "thread": "runner_0", "own": seconds, **changes}
    return Span(name=name, phase=phase, begin=begin, seconds=seconds, **values)


SPANS = [
    span("batch", 0.0, 10.0, category=BATCH, thread="MainThread"),
    span("plan", 0.0, 0.5, PREFILL, thread="MainThread"),
    span("inputs", 1.0, 3.0, PREFILL, own=1.0),
    span("forward", 2.0, 2.0, PREFILL),
    span("inputs", 4.0, 3.0, own=0.5),
    span("linear 4x8", 5.0, 2.0, category=OPERATOR),
    span("attend", 5.0, 0.5, category=OPERATOR),
    span("inputs", 7.0, 2.0, own=2.0),
    span("linear 4x8", 7.0, 1.0, category=OPERATOR),
]


def test_steps_fill_a_batch() -> None:
    prefill, decode = summary(SPANS, PREFILL), summary(SPANS, DECODE)
    assert (prefill["num_steps"], prefill["seconds"]) == (1, 4.0)
    assert (decode["num_steps"], decode["seconds"]) == (2, 6.0)
    assert {name: part["seconds"] for name, part in prefill["parts"].items()} == {
        "plan": 0.5,
        "rest MainThread": 3.5,
        "inputs": 1.0,
        "forward": 2.0,
        "rest runner": 1.0,
    }
    assert list(decode["operators"].items()) == [
        ("linear 4x8", {"calls": 2, "seconds": 3.0, "thread": "runner"}),
        ("attend", {"calls": 1, "seconds": 0.5, "thread": "runner"}),
    ]


def test_a_trace_names_its_threads() -> None:
    events = chrome_trace(SPANS)["traceEvents"]
    assert [event["args"]["name"] for event in events if event["ph"] == "M"] == ["MainThread", "runner_0"]
    calls = [event for event in events if event["ph"] == "X"]
    assert [event["ts"] for event in calls] == sorted(event["ts"] for event in calls)
    assert calls[0] == {
        "name": "batch",
        "cat": BATCH,
        "ph": "X",
        "pid": 1,
        "tid": 1,
        "ts": 0.0,
        "dur": 1e7,
        "args": {"phase": DECODE},
    }


@dataclass(frozen=True)
class Captured:
    """As the operator that captures steps answers."""

    output: str
    replay: Callable[[], str]


def test_a_captured_step_is_one_call() -> None:
    recorder = Recorder()
    recorder.on = True
    with ExitStack() as stack:
        operator = _operator(recorder, stack, "capture", lambda step: Captured(step(), lambda: "again"))
        captured = operator(lambda: "first")
        assert (captured.output, captured.replay()) == ("first", "again")
    assert {(one.name, one.category) for one in recorder.spans} == {(CAPTURED, OPERATOR), ("forward", PART)}


class Packed:
    def __init__(self, inner: Packed | None = None) -> None:
        self.inner = inner

    def __call__(self, x: int) -> int:
        return x if self.inner is None else self.inner(x)


class Weight:
    shape = (8, 4)


def test_packed_weights_are_noted_by_shape_and_their_parts_are_not() -> None:
    recorder = Recorder()
    with ExitStack() as stack:
        linear = _operator(recorder, stack, "linear", lambda weight, inner=None: Packed(inner))
        other = _operator(recorder, stack, "experts", lambda weight: Packed())
        part = Packed()
        whole = linear(Weight(), part)
        recorder.on = True
        assert [packed(7) for packed in (whole, linear(Weight()), other(Weight()))] == [7, 7, 7]
        before = Packed.__call__
    assert [span.name for span in recorder.spans if " " in span.name] == ["linear 4x8", "linear 4x8", "experts 4x8"]
    assert Packed.__call__ is not before


def test_operators_are_still_found_by_those_who_know_them() -> None:
    def gate(x: int) -> int:
        return x

    gate.number = 3  # type: ignore[attr-defined]
    with ExitStack() as stack:
        noted = _operator(Recorder(), stack, "silu_mul", gate)
    assert {gate: "known"}[noted] == "known"
    assert noted.number == 3
    assert noted != print


def test_a_packed_cache_would_hide_operators(tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "profile", "--model", str(tiny_checkpoint), "--packed-cache-dir", "/nowhere"]) == 2
    assert "leave it out" in capsys.readouterr().err


def test_a_profile_of_an_engine(tiny_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, trace = tmp_path / "profile.json", tmp_path / "trace.json"
    flags = ["--input-len", "8", "--output-len", "5", "--batch-size", "2", "--num-iters", "2", "--enforce-eager"]
    files = ["--output-json", str(output), "--output-trace", str(trace), "--kv-cache-memory-bytes", "8M"]
    assert main(["bench", "profile", "--model", str(tiny_checkpoint), *flags, *files]) == 0
    figures = json.loads(output.read_text())
    assert {phase: found["num_steps"] for phase, found in figures.items()} == {PREFILL: 2, DECODE: 8}
    decode = figures[DECODE]
    named = {name.partition(" ")[0] for name in decode["parts"]}
    assert named == set(MEANINGS)
    for thread in ("MainThread", "runner"):
        parts = sum(part["seconds"] for part in decode["parts"].values() if part["thread"] == thread)
        assert parts >= decode["seconds"] * 0.999
    calls = {name: entry["calls"] for name, entry in decode["operators"].items()}
    assert calls["attend"] == calls["write_kv"] == 8 * 2, "two layers"
    assert calls["linear 64x256"] == 8 * 2 * 2, "queries, keys and values; gate and up"
    assert calls["linear 64x871"] == 8, "the output head"
    assert {event["ph"] for event in json.loads(trace.read_text())["traceEvents"]} == {"M", "X"}
    shown = capsys.readouterr().out
    assert "prefill: 2 steps" in shown
    assert "linear 64x256" in shown
