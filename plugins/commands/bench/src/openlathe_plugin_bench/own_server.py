"""A server of one's own in a process of its own: started, timed, stopped."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from openlathe.api import EngineConfig, Policy, ServerConfig
from openlathe.spi import OpenlatheError

_HOST = "127.0.0.1"
_POLL_SECONDS = 0.005
_STOP_SECONDS = 10.0
_NAME = "bench"


@dataclass(frozen=True)
class StartUp:
    """Seconds from the start of the process until ``/health`` answered 200, and until the first token had come."""

    ready: float
    first_token: float


def time_start(config: EngineConfig, policy: Policy, prompt: list[int]) -> StartUp:
    """Starts a server for ``config``, asks it for one token behind ``prompt`` as soon as it is ready, and stops it.

    Raises ``OpenlatheError`` with the reason the server gave for not starting.
    """
    with tempfile.TemporaryDirectory(prefix="openlathe-bench-") as name:
        folder, port = Path(name), _free_port()
        settings, log = folder / "settings.yaml", folder / "server.log"
        settings.write_text(json.dumps(_settings(config, policy)), encoding="utf-8")  # JSON is YAML
        command = [sys.executable, "-m", "openlathe", "serve", "--config", str(settings), "--port", str(port)]
        command += ["--locked", policy.locked] if policy.locked else []
        with log.open("wb") as output:
            started = time.perf_counter()
            server = subprocess.Popen(
                command, env=_environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            _wait(server, port, log)
            ready = time.perf_counter() - started
            _first_token(port, prompt)
            return StartUp(ready, time.perf_counter() - started)
        finally:
            _stop(server)


def _settings(config: EngineConfig, policy: Policy) -> dict[str, Any]:
    """What differs from the defaults, as the file that ``--config`` reads."""
    default = EngineConfig()
    settings = {name: value for name, value in vars(config).items() if value != getattr(default, name)}
    plugins: dict[str, Any] = {"autoload": policy.autoload, "prefer": dict(policy.prefer)}
    plugins |= {"block": sorted(policy.block), "require": list(policy.require)}
    if policy.allow is not None:
        plugins["allow"] = sorted(policy.allow)
    return {**settings, "served_model_name": [_NAME], "plugins": plugins}


def _environment() -> Mapping[str, str]:
    """Ours, without what is meant for public servers: a key that nobody would send, TLS, a path prefix."""
    public = {"VLLM_API_KEY", *(f"OPENLATHE_{item.name.upper()}" for item in fields(ServerConfig))}
    return {name: value for name, value in os.environ.items() if name not in public}


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as found:
        port: int = found.getsockname()[1]
        return port


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    while server.poll() is None:
        connection = http.client.HTTPConnection(_HOST, port)
        try:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass  # not yet
        finally:
            connection.close()
        time.sleep(_POLL_SECONDS)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    reasons = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    raise OpenlatheError(reasons[-1] if reasons else "\n".join(["The server did not start.", *lines[-5:]]))


def _first_token(port: int, prompt: list[int]) -> None:
    """Returns when the first token of an answer has come."""
    body = {"model": _NAME, "prompt": prompt, "max_tokens": 1, "temperature": 0, "ignore_eos": True, "stream": True}
    connection = http.client.HTTPConnection(_HOST, port)
    try:
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        line = response.readline()
        if response.status != 200 or not line.startswith(b"data:"):
            raise OpenlatheError(f"The server answered {response.status}: {line.decode(errors='replace').strip()}")
    finally:
        connection.close()


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGKILL)
        server.wait()
