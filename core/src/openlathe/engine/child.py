"""One engine process and the link that leads to it: started, fed, listened to and ended. Torch-free."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from .link import ServerLink

if TYPE_CHECKING:
    from ..plugins.plan import Plan

#: Seconds in which the last words of a process that has ended may still arrive.
_LAST_WORDS_SECONDS = 0.1


class EngineChild:
    """A process is used once: the next one has a link of its own, with nothing in it for the one before.

    ``on_message`` is called with every message, on the event loop.
    """

    def __init__(self, on_message: Callable[[bytearray], None]) -> None:
        self.process: asyncio.subprocess.Process | None = None
        self._link = ServerLink(on_message)

    async def start(self, plan: Plan) -> None:
        """Starts the process and tells it what to load."""
        ours, theirs = socket.socketpair()
        with theirs:
            await asyncio.get_running_loop().create_unix_connection(lambda: self._link, sock=ours)
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "openlathe.engine.process",
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the server, which then stops the engine in order
            )
        self._link.send(json.dumps(plan.to_dict()).encode())

    def send(self, message: bytes) -> None:
        self._link.send(message)

    async def ended(self) -> int:
        """The exit status, once there is one and all has been heard; negative where a signal ended it."""
        assert self.process is not None, "a child is started before it is waited for"
        status = await self.process.wait()
        with contextlib.suppress(TimeoutError):  # a process of its own may hold its end of the link
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await self._link.lost.wait()
        return status

    async def kill(self) -> None:
        """Ends the process by force, if it has not ended, and closes the link; safe to call twice."""
        self._link.close()
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
