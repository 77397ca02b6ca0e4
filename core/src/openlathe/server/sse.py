"""How a job's stream leaves the server: as server-sent events, or folded into one answer; and what ends it early."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from ..frontend.choice import Delta
from .body import encoder, unknown_fields_header
from .errors import describe
from .job import Tick

_EVENT_STREAM = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}


class Dialect(ABC):
    """An API's way to say what a stream brought. Streaming is the only path: an answer says the deltas' sum."""

    #: What ends a stream, behind the last chunk or an error.
    done = b"data: [DONE]\n\n"

    @abstractmethod
    def chunks(self, tick: Tick) -> Sequence[msgspec.Struct]: ...

    def events(self, tick: Tick) -> bytes:
        """What is said of ``tick``, in one piece for one write; empty where that is nothing."""
        return self.encode(self.chunks(tick))

    def last_chunks(self) -> Sequence[msgspec.Struct]:
        """What follows the last tick of a stream, such as the usage."""
        return ()

    @abstractmethod
    def answer(self, deltas: Sequence[Delta]) -> msgspec.Struct:
        """The whole answer; ``deltas`` has one for each choice, everything that its stream brought."""

    def encode(self, chunks: Sequence[msgspec.Struct]) -> bytes:
        """Chunks, or an ``ErrorBody``, as events."""
        buffer = bytearray()
        for chunk in chunks:
            buffer += b"data: "
            encoder.encode_into(chunk, buffer, -1)
            buffer += b"\n\n"
        return bytes(buffer)


class Answer:
    """The ASGI answer to a generation request; a client that hangs up aborts the job, even before its first token."""

    def __init__(self, request: Request, ticks: AsyncGenerator[Tick, None], dialect: Dialect, *, stream: bool) -> None:
        self._ticks = ticks
        self._dialect = dialect
        self._stream = stream
        self._headers = unknown_fields_header(request)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = self._send_events(send) if self._stream else self._send_whole(scope, receive, send)
        await _unless_disconnected(receive, work)

    async def _send_whole(self, scope: Scope, receive: Receive, send: Send) -> None:
        wholes: defaultdict[int, Delta] = defaultdict(Delta)
        async with aclosing(self._ticks):
            async for tick in self._ticks:
                for index, delta in tick:
                    wholes[index].add(delta)
        body = encoder.encode(self._dialect.answer([wholes[index] for index in sorted(wholes)]))
        await Response(body, 200, self._headers, "application/json")(scope, receive, send)

    async def _send_events(self, send: Send) -> None:
        """The status waits for the first tick: what goes wrong before it is still answered with its own."""
        started = False
        try:
            async with aclosing(self._ticks):
                async for tick in self._ticks:
                    if not (events := self._dialect.events(tick)):
                        continue
                    if not started:
                        started = True
                        await send(self._start())
                    await send({"type": "http.response.body", "body": events, "more_body": True})
            tail = self._dialect.encode(self._dialect.last_chunks())
        except Exception as error:
            if not started:
                raise
            tail = self._dialect.encode([describe(error)[1]])
        if not started:  # nothing to say of any tick
            await send(self._start())
        await send({"type": "http.response.body", "body": tail + self._dialect.done, "more_body": False})

    def _start(self) -> Message:
        headers = {**_EVENT_STREAM, **self._headers}
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        return {"type": "http.response.start", "status": 200, "headers": raw}


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
