"""Real servers: ``serve`` in a process of its own on a free port, and clients nobody here wrote."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

START_SECONDS = 60.0


@dataclass
class RunningServer:
    """A ``serve`` process; ``log`` is its standard error, ``cpu_seconds`` what it and its engine took to be ready."""

    process: subprocess.Popen[str]
    url: str
    log: Path
    cpu_seconds: float
    keys: list[str] = field(default_factory=list)

    @property
    def openai(self) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=self.keys[0] if self.keys else "none", max_retries=0)

    @property
    def children(self) -> list[int]:
        return children(self.process.pid)

    @property
    def http(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.keys[0]}"} if self.keys else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=60)

    def gauge(self, name: str) -> float:
        text = httpx.get(f"{self.url}/metrics").text
        found = re.search(rf"^openlathe:{name}{{[^}}]*}} (\S+)$", text, re.MULTILINE)
        assert found is not None, text
        return float(found[1])

    def settles(self) -> bool:
        """Whether within a few seconds nothing runs and every block is free again."""
        end = time.monotonic() + 10
        while time.monotonic() < end:
            if self.gauge("num_requests_running") == self.gauge("num_requests_waiting") == 0:
                return self.gauge("kv_cache_usage_perc") == 0
            time.sleep(0.05)
        return False


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and its children so far."""
    own = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = sum(int(field) for field in own[11:13])
    return ticks / os.sysconf("SC_CLK_TCK") + sum(cpu_seconds(child) for child in children(pid))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def serving(
    folder: Path, checkpoint: Path | None, *flags: str, keys: list[str] | None = None
) -> Iterator[RunningServer]:
    """``serve`` with ``checkpoint``, or with none named."""
    port, log = free_port(), folder / "serve.log"
    model = [] if checkpoint is None else [str(checkpoint)]
    command = [sys.executable, "-m", "openlathe", "serve", *model, "--port", str(port)]
    command += ["--kv-cache-memory-bytes", "64M", *flags]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    started = time.monotonic()
    with log.open("w") as sink:
        process = subprocess.Popen(command, stderr=sink, stdout=sink, text=True, env=environment)
    try:
        url = f"http://127.0.0.1:{port}"
        while not _answers(url):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() - started < START_SECONDS, log.read_text()
            time.sleep(0.05)
        yield RunningServer(process, url, log, cpu_seconds(process.pid), keys or [])
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """``with start_server(checkpoint, *flags) as server``."""

    def start(checkpoint: Path | None, *flags: str, keys: list[str] | None = None) -> Any:
        return serving(tmp_path_factory.mktemp("server"), checkpoint, *flags, keys=keys)

    return start


@pytest.fixture(scope="session")
def scripted_server(start_server: Callable[..., Any], scripted_checkpoint: Path) -> Iterator[RunningServer]:
    """The model that knows its scripts by heart, greedy unless a request says otherwise, with an API key."""
    flags = ["--served-model-name", "scripted", "--generation-config", "vllm", "--api-key", "secret"]
    with start_server(scripted_checkpoint, *flags, keys=["secret"]) as server:
        yield server


@pytest.fixture(scope="session")
def tiny_server(start_server: Callable[..., Any], tiny_checkpoint: Path) -> Iterator[RunningServer]:
    """The random model, without a key."""
    with start_server(tiny_checkpoint, "--served-model-name", "tiny", "--generation-config", "vllm") as server:
        yield server
