"""The border between server and engine: a pair of connected sockets, on which every message is led by its length.

The engine's end blocks, since an idle engine has nothing better to do; the server's end lives on its event loop.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import cast

#: Bytes that tell a message's length, least significant first.
_HEAD = 4
#: Most bytes taken from a socket at a time.
_MOST = 1 << 18


def framed(message: bytes) -> bytes:
    """``message`` as it goes over a link."""
    return len(message).to_bytes(_HEAD, "little") + message


class Frames:
    """Cuts what arrives into messages; the work is linear in the bytes, however they are parted."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytearray]:
        """The messages that ``data`` completes."""
        buffer = self._buffer
        buffer += data
        messages = []
        while len(buffer) >= _HEAD and len(buffer) >= (end := _HEAD + int.from_bytes(buffer[:_HEAD], "little")):
            messages.append(buffer[_HEAD:end])
            del buffer[:end]
        return messages


class EngineLink:
    """The engine's end."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(True)
        self._sock = sock
        self._frames = Frames()

    def send(self, message: bytes) -> None:
        """Waits while the server is far behind; one that is gone gets nothing, which :meth:`receive` will tell."""
        with suppress(ConnectionError):
            self._sock.sendall(framed(message))

    def receive(self, *, wait: bool) -> list[bytearray]:
        """Messages that have come, perhaps none; with ``wait`` not before something has.

        Raises ``EOFError`` where the server is gone.
        """
        try:
            data = self._sock.recv(_MOST, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except ConnectionError:
            data = b""
        if not data:
            raise EOFError
        return self._frames.feed(data)

    def close(self) -> None:
        self._sock.close()


class ServerLink(asyncio.Protocol):
    """The server's end: ``on_message`` is called with every message, ``lost`` set when no more can come."""

    def __init__(self, on_message: Callable[[bytearray], None]) -> None:
        self.lost = asyncio.Event()
        self._on_message = on_message
        self._frames = Frames()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        for message in self._frames.feed(data):
            self._on_message(message)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def send(self, message: bytes) -> None:
        """Never waits: what the engine has not taken yet is kept."""
        assert self._transport is not None, "a link is connected before it is used"
        self._transport.write(framed(message))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
