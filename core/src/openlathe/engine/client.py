"""The server's side of the process border: turns the engine core's messages into streams. Torch-free."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import signal
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ..spi.errors import ConfigError, EngineDeadError, InvalidRequest
from .child import EngineChild
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
from .spawn import SpawnedEngine

if TYPE_CHECKING:
    from ..plugins.plan import Plan

logger = logging.getLogger(__name__)

#: Seconds an engine gets to end by itself before it is killed.
_STOP_SECONDS = 10.0


class _Stream:
    """What has arrived for one request and was not fetched yet; ``dead`` once nothing more can come."""

    def __init__(self) -> None:
        self.outputs: list[RequestOutput] = []
        self.dead: EngineDead | None = None
        self._arrival: asyncio.Future[None] | None = None

    def put(self, output: RequestOutput) -> None:
        self.outputs.append(output)
        self._wake()

    def end(self, dead: EngineDead) -> None:
        self.dead = dead
        self._wake()

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def take(self) -> list[RequestOutput]:
        """Everything that came since the last call; raises ``EngineDeadError`` when that is nothing and stays so."""
        while not self.outputs:
            if self.dead is not None:
                raise _error(self.dead)
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        outputs, self.outputs = self.outputs, []
        return outputs


class EngineClient:
    """One engine core in a process of its own, and the next one where that has died.

    ``facts`` are what the engine told when it was ready, ``stats`` the newest counters, ``dead`` why none is running.
    ``spawned`` is a process that has been started already, for the first of them.
    """

    def __init__(self, plan: Plan, spawned: SpawnedEngine | None = None) -> None:
        self.plan = plan
        self._spawned = spawned
        self.facts: Mapping[str, Any] = {}
        self.stats = EngineStats()
        self.dead: EngineDead | None = EngineDead(reason="It has not been started.")
        self._child: EngineChild | None = None
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[FromEngine] = msgspec.msgpack.Decoder(FromEngine)
        self._settled, self._death = asyncio.Event(), asyncio.Event()
        self._streams: dict[str, _Stream] = {}
        self._renamed: dict[str, str] = {}
        self._calls: dict[int, asyncio.Future[Any]] = {}
        self._names = itertools.count()
        self._listeners: list[Callable[[EngineOutputs], None]] = []
        self._watching: asyncio.Task[None] | None = None

    # -- life of the process --------------------------------------------------------------------------------------

    async def start(self, progress: Callable[[str], None] | None = None) -> Mapping[str, Any]:
        """Starts the process and waits until the model is loaded; returns its facts. Also after it has died.

        Raises ``ConfigError`` with the engine's sentence where the cause is the user's to mend, ``EngineDeadError``
        otherwise. ``progress`` is told what is going on, in a few words.
        """
        if progress is not None:
            progress("starting the engine")
        await self._end()  # what a dead one has left
        self._settled.clear()
        child = self._child = EngineChild(self._spawned or SpawnedEngine(), self._hear)
        self._spawned = None
        try:
            await child.start(self.plan)
            self._watching = asyncio.create_task(self._watch(child))
            await self._settled.wait()
            if self.dead is not None:
                raise (ConfigError if self.dead.refused else EngineDeadError)(self.dead.reason)
        except BaseException:
            await self.stop()
            raise
        return self.facts

    async def died(self) -> EngineDead:
        """Why the engine is not running any more, as soon as that is so."""
        await self._death.wait()
        assert self.dead is not None
        return self.dead

    async def stop(self) -> None:
        """Stops the process, by force if it does not end in time, and fails what still waits; safe to call twice."""
        if self._child is None:
            return
        try:
            # One that still loads would not listen before it is done, and has nothing to lose.
            if self._settled.is_set():
                async with asyncio.timeout(_STOP_SECONDS):
                    with contextlib.suppress(EngineDeadError):
                        await self.call("shutdown")
                        self._die(EngineDead(reason="It was stopped."))
                    await self._child.ended()
        except TimeoutError:
            logger.warning("The engine did not end within %g seconds and is killed.", _STOP_SECONDS)
        finally:
            if self.dead is None or not self._settled.is_set():
                self._die(EngineDead(reason="It was stopped."))
            await self._end()

    async def _end(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
        if self._child is not None:
            await self._child.kill()

    # -- requests ---------------------------------------------------------------------------------------------------

    async def generate(self, request: EngineRequest) -> AsyncGenerator[list[RequestOutput], None]:
        """The outputs of one request as they come, everything since the last tick at a time.

        Closing the iterator before the end aborts the request at once; one that asks to be held is aborted by
        :meth:`release` where it came to its end. Raises ``InvalidRequest`` for what the engine refuses and
        ``EngineDeadError`` when it dies.
        """
        self._check_alive()
        # The engine knows it by a name of its own, lest it be given what was on its way to an aborted one of its id.
        name = f"{request.request_id}/{next(self._names)}"
        stream = self._streams[name] = _Stream()
        self._renamed[request.request_id] = name
        fork_of = None if request.fork_of is None else self._renamed.get(request.fork_of)
        finished = False
        try:
            self._send(msgspec.structs.replace(request, request_id=name, fork_of=fork_of))
            while not finished:
                outputs = await stream.take()
                finished = outputs[-1].finish_reason is not None
                if outputs[-1].finish_reason == "error":
                    raise InvalidRequest(outputs[-1].error or "The engine refused this request.")
                yield outputs
        finally:
            del self._streams[name]
            if not (finished and request.hold) and self._renamed.get(request.request_id) == name:
                del self._renamed[request.request_id]
            if not finished and stream.dead is None:
                self._send(Abort([name]))

    def release(self, request_ids: Iterable[str]) -> None:
        """Lets the engine forget what it holds of requests that have ended; unknown ids are ignored."""
        names = [name for id in request_ids if (name := self._renamed.pop(id, None)) is not None]
        if names and self.dead is None:
            self._send(Abort(names))

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

    def _send(self, message: ToEngine) -> None:
        assert self._child is not None, "there is a process while the engine is not dead"
        self._child.send(self._encoder.encode(message))

    def _hear(self, message: bytearray) -> None:
        try:
            self._take(self._decoder.decode(message))
        except Exception as error:  # or every stream would wait for ever
            logger.exception("Reading the engine's messages failed")
            self._die(EngineDead(reason=f"Its messages could not be read: {error}"))

    async def _watch(self, child: EngineChild) -> None:
        status = await child.ended()
        if self.dead is None or not self._settled.is_set():
            self._die(EngineDead(reason=f"Its process ended {_how(status)}."))

    def _take(self, message: FromEngine) -> None:
        match message:
            case EngineOutputs():
                self._dispatch(message)
            case Reply():
                self._resolve(message)
            case EngineReady(facts=facts):
                self.facts = facts
                self.dead = None
                self._death.clear()
                self._settled.set()
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

    def _die(self, dead: EngineDead) -> None:
        self.dead = dead
        self._death.set()
        self._settled.set()
        for stream in self._streams.values():
            stream.end(dead)
        for future in self._calls.values():
            if not future.done():
                future.set_exception(_error(dead))
        self._dispatch(EngineOutputs(stats=EngineStats()))  # nothing runs, nothing waits

    def _check_alive(self) -> None:
        if self.dead is not None:
            raise _error(self.dead)


def _error(dead: EngineDead) -> EngineDeadError:
    return EngineDeadError(f"The engine is not running: {dead.reason}")


def _how(status: int) -> str:
    """``status`` in words; negative where a signal ended the process."""
    if status >= 0:
        return f"with status {status}; its log says more"
    hint = ", as a system does that is short of memory" if -status == signal.SIGKILL else "; its log may say more"
    return f"by signal {-status} ({signal.strsignal(-status)}){hint}"
