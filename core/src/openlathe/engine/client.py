"""The server's side of the process border: starts the engine core and turns its messages into streams. Torch-free."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
import zmq
import zmq.asyncio

from ..spi.errors import ConfigError, EngineDeadError, InvalidRequest
from .messages import (
    Abort,
    Call,
    EngineDead,
    EngineOutputs,
    EngineReady,
    EngineRequest,
    EngineStats,
    FromEngine,
    Reply,
    RequestOutput,
    ToEngine,
)

if TYPE_CHECKING:
    from ..plugins.plan import Plan

logger = logging.getLogger(__name__)

#: Seconds an engine gets to end by itself before it is killed.
_STOP_SECONDS = 10.0


class _Stream:
    """What has arrived for one request and was not fetched yet."""

    def __init__(self) -> None:
        self.outputs: list[RequestOutput] = []
        self.arrived = asyncio.Event()

    def put(self, output: RequestOutput) -> None:
        self.outputs.append(output)
        self.arrived.set()

    async def take(self) -> list[RequestOutput]:
        """Everything that came since the last call, at least one output unless woken for another reason."""
        await self.arrived.wait()
        self.arrived.clear()
        outputs, self.outputs = self.outputs, []
        return outputs


class EngineClient:
    """One engine core in a process of its own.

    ``facts`` are what the engine told when it was ready, ``stats`` the newest counters, ``dead`` why it stopped.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.facts: Mapping[str, Any] = {}
        self.stats = EngineStats()
        self.dead: EngineDead | None = None
        self._streams: dict[str, _Stream] = {}
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._names = itertools.count()
        self._listeners: list[Callable[[EngineOutputs], None]] = []
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[FromEngine] = msgspec.msgpack.Decoder(FromEngine)
        self._tasks: list[asyncio.Task[None]] = []
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    # -- life of the process --------------------------------------------------------------------------------------

    async def start(self, progress: Callable[[str], None] | None = None) -> Mapping[str, Any]:
        """Starts the process and waits until the model is loaded; returns its facts.

        Raises ``ConfigError`` with the engine's sentence where the cause is the user's to mend, ``EngineDeadError``
        otherwise. ``progress`` is told what is going on, in a few words.
        """
        if progress is not None:
            progress("starting the engine")
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._bind()
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "openlathe.engine.process",
                *self._endpoints,
                str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the server, which then stops the engine in order
            )
            self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._watch())]
            await self._inbox.send(json.dumps(self.plan.to_dict()).encode())
            await self._ready
        except BaseException:
            await self.stop()
            raise
        return self.facts

    async def stop(self) -> None:
        """Stops the process, by force if it does not end in time, and fails what still waits; safe to call twice."""
        if self._stopping or not hasattr(self, "_folder"):
            return
        self._stopping = True
        try:
            # One that still loads would not listen before it is done, and has nothing to lose.
            if self._process is not None and (self.facts or self.dead is not None):
                async with asyncio.timeout(_STOP_SECONDS):
                    with contextlib.suppress(EngineDeadError):
                        await self.call("shutdown")
                    await self._process.wait()
        except TimeoutError:
            logger.warning("The engine did not end within %g seconds and is killed.", _STOP_SECONDS)
        finally:
            self._close()
        if self._process is not None:
            await self._process.wait()

    def _close(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        for pending in (self._ready, *self._tasks):
            pending.cancel()
        if self.dead is None:
            self._die(EngineDead(reason="It was stopped."))
        self._context.destroy(linger=0)
        shutil.rmtree(self._folder, ignore_errors=True)

    # -- requests ---------------------------------------------------------------------------------------------------

    async def generate(self, request: EngineRequest) -> AsyncGenerator[list[RequestOutput], None]:
        """The outputs of one request as they come, everything since the last tick at a time.

        Closing the iterator before the end aborts the request at once. Raises ``InvalidRequest`` for what the engine
        refuses and ``EngineDeadError`` when it dies.
        """
        self._check_alive()
        # The engine knows it by a name of its own, lest it be given what was on its way to an aborted one of its id.
        name = f"{request.request_id}/{next(self._names)}"
        stream = self._streams[name] = _Stream()
        finished = False
        try:
            self._send(msgspec.structs.replace(request, request_id=name))
            while not finished:
                if not stream.outputs:  # what came before the engine died is still handed out
                    self._check_alive()
                if outputs := await stream.take():
                    finished = outputs[-1].finish_reason is not None
                    if outputs[-1].finish_reason == "error":
                        raise InvalidRequest(outputs[-1].error or "The engine refused this request.")
                    yield outputs
        finally:
            del self._streams[name]
            if not finished and self.dead is None:
                self._send(Abort([name]))

    async def call(self, method: str, *args: Any) -> Any:
        """An administrative call, such as ``stats`` or ``reset_prefix_cache``; raises ``ConfigError`` if refused."""
        self._check_alive()
        call_id = next(self._names)
        future = self._calls[call_id] = asyncio.get_running_loop().create_future()
        try:
            self._send(Call(call_id=call_id, method=method, args=list(args)))
            return await future
        finally:
            del self._calls[call_id]

    def add_listener(self, listener: Callable[[EngineOutputs], None]) -> None:
        """Calls ``listener`` with every message of outputs, once, on the event loop."""
        self._listeners.append(listener)

    # -- messages ---------------------------------------------------------------------------------------------------

    def _bind(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="openlathe-")
        self._endpoints = [f"ipc://{self._folder}/{name}" for name in ("in", "out")]
        self._context = zmq.asyncio.Context()
        self._inbox, self._outbox = self._context.socket(zmq.PUSH), self._context.socket(zmq.PULL)
        for socket, endpoint in zip((self._inbox, self._outbox), self._endpoints, strict=True):
            socket.set_hwm(0)
            socket.bind(endpoint)

    def _send(self, message: ToEngine) -> None:
        # Without a high-water mark a send never waits, so its future is done when it is returned.
        self._inbox.send(self._encoder.encode(message))

    async def _read(self) -> None:
        try:
            while True:
                self._take(self._decoder.decode(await self._outbox.recv()))
        except Exception as error:  # or every stream would wait for ever
            logger.exception("Reading the engine's messages failed")
            self._die(EngineDead(reason=f"Its messages could not be read: {error}"))

    def _take(self, message: FromEngine) -> None:
        match message:
            case EngineOutputs():
                self._dispatch(message)
            case Reply():
                self._resolve(message)
            case EngineReady(facts=facts):
                self.facts = facts
                if not self._ready.done():
                    self._ready.set_result(None)
            case EngineDead():
                self._die(message)

    def _dispatch(self, message: EngineOutputs) -> None:
        if message.stats is not None:
            self.stats = message.stats
        for output in message.outputs:
            stream = self._streams.get(output.request_id)
            if stream is not None:
                stream.put(output)
        for listener in self._listeners:
            listener(message)

    def _resolve(self, reply: Reply) -> None:
        future = self._calls.get(reply.call_id)
        if future is None or future.done():
            return
        if reply.error is None:
            future.set_result(reply.result)
        else:
            future.set_exception(ConfigError(reply.error))

    async def _watch(self) -> None:
        assert self._process is not None
        status = await self._process.wait()
        # Its last words may still be on their way.
        await asyncio.sleep(0.1)
        if self.dead is None:
            self._die(EngineDead(reason=f"The engine process ended with status {status}; its log says more."))

    def _die(self, dead: EngineDead) -> None:
        self.dead = dead
        if not self._ready.done():
            self._ready.set_exception((ConfigError if dead.refused else EngineDeadError)(dead.reason))
        for stream in self._streams.values():
            stream.arrived.set()
        for future in self._calls.values():
            if not future.done():
                future.set_exception(EngineDeadError(dead.reason))

    def _check_alive(self) -> None:
        if self.dead is not None:
            raise EngineDeadError(f"The engine is not running any more: {self.dead.reason}")
