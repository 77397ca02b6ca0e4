"""A server of one's own: started in a folder nobody else can enter, reached through a unix socket, gone at the end."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import httpx

from openlathe.api import EngineConfig, OwnServer, Policy, complain

_POLL_SECONDS = 0.05


@contextmanager
def private_server(config: EngineConfig, policy: Policy) -> Iterator[str]:
    """The socket of a server for ``config`` that is ready.

    Raises ``OpenlatheError`` with the reason the server gave for not starting.
    """
    with tempfile.TemporaryDirectory(prefix="openlathe-chat-") as name, _exit_on_termination():
        folder = Path(name)
        socket = folder / "socket"
        complain(f"Loading {config.model or 'the model that is served by default'} ...")
        with OwnServer(config, policy, folder, "--uds", str(socket)) as server:
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://localhost") as client:
                server.wait(lambda: _healthy(client), poll_seconds=_POLL_SECONDS)
            yield str(socket)


def _healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").is_success
    except httpx.TransportError:
        return False


@contextmanager
def _exit_on_termination() -> Iterator[None]:
    """Makes SIGTERM unwind the stack, so that the server is stopped on that way out, too."""

    def leave(number: int, frame: object) -> NoReturn:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
