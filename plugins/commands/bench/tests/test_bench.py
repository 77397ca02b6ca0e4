"""``core bench``: what it lists, refuses and measures offline."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from openlathe_plugin_bench.bench import BENCHMARKS
from openlathe_plugin_bench.flags import _ELSEWHERE
from openlathe_plugin_bench.page_cache import files_of, forget, read

from openlathe.cli.main import main


@pytest.fixture
def model(tiny_checkpoint: Path) -> list[str]:
    return ["--model", str(tiny_checkpoint), "--kv-cache-memory-bytes", "8M"]


def test_latency(model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, plot = tmp_path / "latency.json", tmp_path / "latency.svg"
    flags = [
        "--input-len",
        "8",
        "--output-len",
        "2",
        "--batch-size",
        "2",
        "--num-iters",
        "3",
        "--num-iters-warmup",
        "1",
    ]
    assert main(["bench", "latency", *model, *flags, "--output-json", str(output), "--plot", str(plot)]) == 0
    figures = json.loads(output.read_text())
    assert set(figures) == {"avg_latency", "latencies", "percentiles"}
    assert len(figures["latencies"]) == 3
    assert set(figures["percentiles"]) == {"10", "25", "50", "75", "90", "99"}
    assert figures["avg_latency"] == pytest.approx(sum(figures["latencies"]) / 3)
    assert re.match(r"Avg latency: [\d.]+ seconds\n10% percentile latency: ", capsys.readouterr().out)
    assert plot.is_file()


def test_throughput(model: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "throughput.json"
    flags = ["--num-prompts", "3", "--random-input-len", "10", "--random-output-len", "4", "--n", "2"]
    assert main(["bench", "throughput", *model, *flags, "--output-json", str(output)]) == 0
    figures = json.loads(output.read_text())
    assert (figures["num_requests"], figures["total_num_tokens"]) == (3, 3 * (10 + 2 * 4))
    assert figures["tokens_per_second"] == pytest.approx(figures["total_num_tokens"] / figures["elapsed_time"])
    shown = capsys.readouterr().out
    assert re.match(r"Throughput: [\d.]+ requests/s, [\d.]+ total tokens/s, [\d.]+ output tokens/s\n", shown)
    assert "Total num prompt tokens:  30\nTotal num output tokens:  24\n" in shown


def test_all_benchmarks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["bench"])
    assert left.value.code == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["bench", name, "--help"])
    assert left.value.code == 0
    assert f"usage: core bench {name}" in capsys.readouterr().out


@pytest.mark.parametrize("flag", _ELSEWHERE)
def test_what_vllm_has_and_we_do_not_is_refused_by_name(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "serve", flag]) == 2
    assert f"{flag} is not supported: {_ELSEWHERE[flag]}." in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, message",
    [
        (["latency"], "--model takes a directory"),
        (["latency", "--model", "m", "--plot", "a.gif"], "ends with .svg or .png"),
        (["throughput", "--model", "m", "--backend", "hf"], "another engine"),
        (["serve", "--goodput", "itl:3"], "--goodput has 'itl'"),
        (["serve", "--goodput", "ttft=3"], "write NAME:VALUE"),
        (["serve", "--percentile-metrics", "ttft,x"], "has 'x'"),
        (["serve", "--metric-percentiles", "101"], "from 0 to 100"),
        (["serve", "--metric-percentiles", "p99"], "'p99', which is no number"),
        (["serve", "--base-url", "localhost:8000"], "is no address"),
        (["serve", "--base-url", "http://127.0.0.1:9", "--model", "/nowhere"], "say with --tokenizer where"),
        (["startup", "--model", "/nowhere"], "/nowhere"),
    ],
)
def test_what_cannot_be_meant(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) in (1, 2)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [["latncy"], ["latency", "--batch-size", "0"], ["serve", "--extra-body", "[]"]])
def test_what_argparse_refuses(words: list[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["bench", *words])
    assert left.value.code == 2


def test_lengths_must_fit_the_context(model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "latency", *model, "--max-model-len", "64", "--input-len", "60"]) == 2
    assert "188 tokens long" in capsys.readouterr().err


def test_policies_reach_the_benchmark(model: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--plugins", "openlathe-plugin-bench", "bench", "latency", *model]) != 0
    assert "Qwen3ForCausalLM" in capsys.readouterr().err


def test_files_behind_links_are_forgotten_and_read(tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / "1"
    blob.parent.mkdir()
    blob.write_bytes(b"x" * 100_000)
    folder = tmp_path / "snapshot"
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(blob)
    assert files_of(folder) == [blob]
    forget([blob])
    read([blob])
    assert blob.read_bytes() == b"x" * 100_000


def test_the_load_client_imports_no_tensor_library() -> None:
    program = "import sys, openlathe_plugin_bench.bench_serve; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
