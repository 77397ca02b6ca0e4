"""How a job's stream leaves the server: as server-sent events, or folded into one answer; and what ends it early."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .body import encoder, unknown_fields_header
from .errors import describe
from .generation import Tick

logger = logging.getLogger(__name__)

_EVENT, _END, _DONE = b"data: ", b"\n\n", b"data: [DONE]\n\n"
_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class Dialect(Protocol):
    """An API's way to say what a stream brought. A whole answer is the fold of the chunks, so the two cannot differ."""

    def chunks(self, tick: Tick) -> Sequence[msgspec.Struct]: ...

    def last_chunks(self) -> Sequence[msgspec.Struct]:
        """What follows the last tick of a stream, such as the usage."""
        ...

    def fold(self, chunks: Sequence[msgspec.Struct]) -> None:
        """Takes chunks into the whole answer."""
        ...

    def answer(self) -> msgspec.Struct: ...


class Answer(Response):
    """Answers a generation request. The job is aborted when the client hangs up, even before its first token."""

    def __init__(self, request: Request, ticks: AsyncGenerator[Tick, None], dialect: Dialect, *, stream: bool) -> None:
        self._ticks = ticks
        self._dialect = dialect
        self._stream = stream
        self._more_headers = unknown_fields_header(request)
        self.background = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = self._send_events(send) if self._stream else self._send_whole(scope, receive, send)
        await _unless_disconnected(receive, work)

    async def _send_whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._ticks):
            async for tick in self._ticks:
                self._dialect.fold(self._dialect.chunks(tick))
        body = encoder.encode(self._dialect.answer())
        await Response(body, 200, self._more_headers, "application/json")(scope, receive, send)

    async def _send_events(self, send: Send) -> None:
        """The status waits for the first tick: what goes wrong before it is still answered with its own."""
        started = False
        try:
            async with aclosing(self._ticks):
                async for tick in self._ticks:
                    if not (chunks := self._dialect.chunks(tick)):
                        continue
                    if not started:
                        started = True
                        await send(self._start())
                    await send({"type": "http.response.body", "body": encode_events(chunks), "more_body": True})
            tail = encode_events(self._dialect.last_chunks()) + _DONE
        except Exception as error:
            if not started:
                raise
            tail = encode_events([describe(error)[1]]) + _DONE
        await send({"type": "http.response.body", "body": tail, "more_body": False})

    def _start(self) -> dict[str, Any]:
        headers = {"Content-Type": "text/event-stream; charset=utf-8", **_HEADERS, **self._more_headers}
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        return {"type": "http.response.start", "status": 200, "headers": raw}


def encode_events(chunks: Sequence[msgspec.Struct]) -> bytes:
    """``chunks`` as events, in one piece of bytes for one write."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += _EVENT
        encoder.encode_into(chunk, buffer, -1)
        buffer += _END
    return bytes(buffer)


async def _unless_disconnected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Awaits ``work``, cancelling it as soon as the client has hung up."""
    working = asyncio.ensure_future(work)
    listening = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((working, listening), return_when=asyncio.FIRST_COMPLETED)
    finally:
        listening.cancel()
        if not working.done():
            working.cancel()
        await asyncio.gather(working, listening, return_exceptions=True)
    if not working.cancelled():
        working.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
