"""``core bench`` against real servers: every request is answered and counted, start-up is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def bench(*words: str) -> str:
    command = [sys.executable, "-m", "openlathe", "bench", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("backend", ["openai", "openai-chat"])
def test_a_server_under_load(tiny_server: Any, tiny_checkpoint: Path, tmp_path: Path, backend: str) -> None:
    shown = bench(
        *("serve", "--base-url", tiny_server.url, "--tokenizer", str(tiny_checkpoint), "--backend", backend),
        *("--num-prompts", "12", "--random-input-len", "20", "--random-output-len", "6", "--ignore-eos"),
        *("--request-rate", "200", "--max-concurrency", "4", "--num-warmups", "2", "--goodput", "e2el:60000"),
        *("--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,99"),
        *("--save-detailed", "--result-dir", str(tmp_path), "--result-filename", "result.json", "--metadata", "a=b"),
    )
    result = json.loads((tmp_path / "result.json").read_text())
    assert (result["completed"], result["failed"], result["errors"]) == (12, 0, [""] * 12)
    assert (result["input_lens"], result["output_lens"]) == ([20] * 12, [6] * 12)
    assert (result["total_input_tokens"], result["total_output_tokens"]) == (240, 72)
    assert (result["model_id"], result["request_rate"], result["a"]) == ("tiny", 200.0, "b")
    assert result["request_goodput"] == result["request_throughput"] == pytest.approx(12 / result["duration"])
    assert 1 <= result["max_concurrent_requests"] <= 4
    for name in ("ttft", "tpot", "itl", "e2el"):
        assert 0 <= result[f"median_{name}_ms"] == result[f"p50_{name}_ms"] <= result[f"p99_{name}_ms"]
    assert 0 < result["mean_ttft_ms"] < result["mean_e2el_ms"]
    assert "Successful requests:                     12" in shown
    assert tiny_server.settles()


def test_starts_are_timed(tiny_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "startup.json"
    counts = ["--num-iters-cold", "1", "--num-iters-warmup", "0", "--num-iters-warm", "1"]
    flags = ["--kv-cache-memory-bytes", "8M", "--output-json", str(path)]
    shown = bench("startup", "--model", str(tiny_checkpoint), *counts, *flags)
    figures = json.loads(path.read_text())
    for kind in ("cold", "warm"):
        (ready,), (first,) = figures[f"{kind}_startup_times"], figures[f"{kind}_first_token_times"]
        assert 0 < ready < first
        assert f"{kind.capitalize()}, until ready: avg {ready:.3f} s" in shown
