"""A server of one's own in a process of its own: started, timed, stopped."""

from __future__ import annotations

import http.client
import json
import socket
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from openlathe.api import EngineConfig, OwnServer, Policy
from openlathe.spi import OpenlatheError

_HOST = "127.0.0.1"
_POLL_SECONDS = 0.005
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
    config, port = replace(config, served_model_name=[_NAME]), _free_port()
    with tempfile.TemporaryDirectory(prefix="openlathe-bench-") as folder:
        server = OwnServer(config, policy, Path(folder), "--port", str(port))
        started = time.perf_counter()
        with server:
            server.wait(lambda: _healthy(port), poll_seconds=_POLL_SECONDS)
            ready = time.perf_counter() - started
            _first_token(port, prompt)
            return StartUp(ready, time.perf_counter() - started)


def _free_port() -> int:
    with socket.create_server((_HOST, 0)) as found:
        port: int = found.getsockname()[1]
        return port


def _healthy(port: int) -> bool:
    connection = http.client.HTTPConnection(_HOST, port)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


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
