"""One engine process and the link that leads to it: fed, listened to and ended. Torch-free."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING

from .link import ServerLink
from .spawn import SpawnedEngine

if TYPE_CHECKING:
    from ..plugins.plan import Plan

#: Seconds in which the last words of a process that has ended may still arrive.
_LAST_WORDS_SECONDS = 0.1


class EngineChild:
    """A process is used once: the next one has a link of its own, with nothing in it for the one before.

    ``on_message`` is called with every message, on the event loop.
    """

    def __init__(self, spawned: SpawnedEngine, on_message: Callable[[bytearray], None]) -> None:
        self.process = spawned.process
        self._spawned = spawned
        self._link = ServerLink(on_message)

    async def start(self, plan: Plan) -> None:
        """Tells the process what to load."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self._link, sock=self._spawned.sock)
        self._link.send(json.dumps(plan.to_dict()).encode())

    def send(self, message: bytes) -> None:
        self._link.send(message)

    async def ended(self) -> int:
        """The exit status, once there is one and all has been heard; negative where a signal ended it."""
        status = await asyncio.to_thread(self.process.wait)
        with contextlib.suppress(TimeoutError):  # a process of its own may hold its end of the link
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await self._link.lost.wait()
        return status

    async def kill(self) -> None:
        """Ends the process by force, if it has not ended, and closes the link; safe to call twice."""
        self._link.close()
        await asyncio.to_thread(self._spawned.kill)
