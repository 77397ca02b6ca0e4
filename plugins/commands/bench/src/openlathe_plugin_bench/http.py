"""A client of HTTP/1.1 that costs little: what a server under load is measured with runs on the same machine."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import httptools

from openlathe.spi import ConfigError, OpenlatheError

#: Takes a piece of an answer's body and the time of its arrival.
Receive = Callable[[bytes, float], None]


class RequestFailed(OpenlatheError):
    """A request that brought no answer, or one that refuses it."""


class _Stale(Exception):
    """The server had closed a connection that was kept for the next request."""


class HttpClient:
    """Posts to one server over as many connections as there are requests at a time; connections are used again.

    ``url`` may hold a path, before which requests put theirs. Raises ``ConfigError`` for one that is no URL.
    """

    def __init__(self, url: str, headers: Mapping[str, str] | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{url!r} is no address of a server; give one such as http://localhost:8000.")
        self.url = url.rstrip("/")
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host, self._port = parts.hostname, parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        lines = {"Host": parts.netloc.rpartition("@")[2], "Content-Type": "application/json", **(headers or {})}
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._idle: list[_Connection] = []

    async def post(self, path: str, body: bytes, receive: Receive) -> None:
        """Sends ``body`` and hands the answer to ``receive`` as it comes; raises ``RequestFailed``."""
        await self._request(f"POST {self._prefix}{path} HTTP/1.1", body, receive)

    async def get(self, path: str) -> bytes:
        """The whole answer; raises ``RequestFailed``."""
        pieces: list[bytes] = []
        await self._request(f"GET {self._prefix}{path} HTTP/1.1", b"", lambda data, now: pieces.append(data))
        return b"".join(pieces)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    async def _request(self, line: str, body: bytes, receive: Receive) -> None:
        message = f"{line}\r\n{self._headers}Content-Length: {len(body)}\r\n\r\n".encode() + body
        while (kept := self._kept()) is not None:
            try:
                return await self._exchange(kept, message, receive)
            except _Stale:
                continue
        await self._exchange(await self._connect(), message, receive)

    async def _exchange(self, connection: _Connection, message: bytes, receive: Receive) -> None:
        try:
            status = await connection.exchange(message, receive)
        except BaseException:
            connection.close()
            raise
        if connection.reusable:
            self._idle.append(connection)
        else:
            connection.close()
        if status >= 400:
            raise RequestFailed(_reason(status, connection.refusal))

    def _kept(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_connection(_Connection, self._host, self._port, ssl=self._tls)
        except OSError as error:
            raise RequestFailed(f"{self.url} cannot be reached: {error}.") from None
        return connection


class _Connection(asyncio.Protocol):
    """One connection, one request at a time.

    httptools calls ``on_...``. ``refusal`` is the body of an answer with a status that refuses, ``reusable`` whether
    another request may follow.
    """

    def __init__(self) -> None:
        self.refusal = b""
        self.reusable = False
        self.closed = False
        self._now = 0.0
        self._answered = False
        self._framed = self._until_closed = False
        self._done: asyncio.Future[int] | None = None

    async def exchange(self, message: bytes, receive: Receive) -> int:
        """Sends a request and returns the status when the answer has ended. Raises ``RequestFailed`` or ``_Stale``."""
        self._done = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._receive = receive
        self.refusal, self.reusable, answered_before = b"", False, self._answered
        self._answered = self._framed = self._until_closed = False
        self._transport.write(message)
        try:
            return await self._done
        except ConnectionError as error:
            if answered_before and not self._answered:
                raise _Stale from None
            raise RequestFailed(f"The server closed the connection before its answer had ended: {error}.") from None

    def close(self) -> None:
        self.closed = True
        self._transport.close()

    # -- asyncio ----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport

    def data_received(self, data: bytes) -> None:
        self._now = time.perf_counter()
        self._answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:  # of who receives: raised where the answer is awaited
            self._fail(error.__context__ or error)
        except httptools.HttpParserError as error:
            self._fail(ConnectionError(f"what it sent is no HTTP ({error})"))

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._until_closed and error is None:
            self.on_message_complete()
        self._fail(ConnectionError(str(error) if error else "nobody is there any more"))

    # -- httptools --------------------------------------------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        self._framed = self._framed or name.lower() in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        self._until_closed = not self._framed

    def on_body(self, body: bytes) -> None:
        if self._parser.get_status_code() >= 400:
            self.refusal += body
        else:
            self._receive(body, self._now)

    def on_message_complete(self) -> None:
        self.reusable = bool(self._parser.should_keep_alive()) and not self.closed
        if self._done is not None and not self._done.done():
            self._done.set_result(self._parser.get_status_code())

    def _fail(self, error: BaseException) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)


def _reason(status: int, body: bytes) -> str:
    try:
        said = json.loads(body)
        message = said["error"]["message"] if isinstance(said.get("error"), dict) else said["message"]
    except (ValueError, LookupError, TypeError, AttributeError):
        message = body.decode(errors="replace").strip()[:200]
    return f"The server answered {status}: {message}"
