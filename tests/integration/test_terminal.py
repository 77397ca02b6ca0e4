"""``core chat`` and ``core generate`` as people type them, with the scripted checkpoint."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

FLAGS = ["--max-model-len", "1024", "--num-gpu-blocks-override", "128"]
GREEDY = ["--override-generation-config", '{"temperature": 0}']
CORE = [sys.executable, "-m", "openlathe"]


def core(*arguments: str | Path, input: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CORE, *map(str, arguments)], input=input, capture_output=True, text=True, timeout=120)


def test_chat_starts_a_server_and_stops_it(scripted_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "of the public server")
    monkeypatch.setenv("OPENLATHE_ROOT_PATH", "/behind/a/proxy")
    done = core("chat", scripted_checkpoint, *FLAGS, *GREEDY, input="Hello!\n/reset\nGreet me in Japanese.\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "The user says hello, so I greet them.\n\nHello! How can I help you today?\n"
        "日本語で挨拶します。\n\nこんにちは 👋🏽, très bien!\n"
    )


def test_chat_leaves_no_process_behind_when_it_is_terminated(scripted_checkpoint: Path) -> None:
    command = [*CORE, "chat", str(scripted_checkpoint), *FLAGS, *GREEDY]
    chat = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert chat.stdin is not None
    assert chat.stdout is not None
    chat.stdin.write("Hello!\n")
    chat.stdin.flush()
    assert chat.stdout.readline() == "The user says hello, so I greet them.\n"
    server = _children(chat.pid)
    assert len(server) == 1
    started = [*server, *_children(server[0])]
    chat.send_signal(signal.SIGTERM)
    assert chat.wait(30) == 128 + signal.SIGTERM
    chat.communicate()
    assert not _alive(started)


@pytest.mark.parametrize("arguments, reason", [((), "no config.json"), (("--max-model-len", "1M"), "--max-model-len")])
def test_chat_says_why_the_server_did_not_start(
    tmp_path: Path, scripted_checkpoint: Path, arguments: Sequence[str], reason: str
) -> None:
    done = core("chat", scripted_checkpoint if arguments else tmp_path, *arguments, "-q", "hi")
    assert done.returncode == 1
    assert reason in done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr


def test_chat_without_a_model_says_what_the_server_says() -> None:
    done = core("chat", "--block-plugins", "openlathe-plugin-demo", "-q", "hi")
    assert done.returncode == 1
    assert "No model was given: name a directory, a bundled checkpoint or a hub id." in done.stderr


def test_generate_streams_one_completion(scripted_checkpoint: Path) -> None:
    prompt = "<|im_start|>user\nCount to twenty.<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    done = core("generate", scripted_checkpoint, *FLAGS, "--temperature", "0", "--prompt", prompt, "--stop", "9,")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1, 2, 3, 4, 5, 6, 7, 8, \n"


def test_generate_completes_every_line(scripted_checkpoint: Path) -> None:
    flags = [*FLAGS, "--max-tokens", "3", "--ignore-eos", "--lines", "--json"]
    done = core("generate", scripted_checkpoint, *flags, input="one\n\ntwo\n")
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [result["prompt"] for result in results] == ["one", "two"]
    assert [(result["completion_tokens"], result["finish_reason"]) for result in results] == [(3, "length")] * 2


@pytest.mark.parametrize(
    "arguments, reason",
    [([], "Which model?"), (["m", "--lines"], "There is no prompt"), (["/nowhere", "--prompt", "x"], "/nowhere")],
)
def test_generate_says_what_is_missing(arguments: list[str], reason: str) -> None:
    done = core("generate", *arguments)
    assert done.returncode in (1, 2)
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _alive(pids: Sequence[int]) -> list[int]:
    """Those that still run after a few seconds."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        running = [pid for pid in pids if Path(f"/proc/{pid}").exists()]
        if not running:
            return []
        time.sleep(0.05)
    return running
