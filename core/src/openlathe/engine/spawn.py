"""The engine's process before anybody knows what it will run: it imports torch while the plan is still being made.

Imports the standard library only, so that a command can start the process before it imports anything else.
"""

from __future__ import annotations

import socket
import subprocess
import sys
from types import TracebackType


class SpawnedEngine:
    """A process that waits for its plan, used once; ``sock`` is our end of the link that leads to it."""

    def __init__(self) -> None:
        self.sock, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "openlathe.engine.process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the server, which then stops the engine in order
            )

    def kill(self) -> None:
        """Ends the process by force, if it has not ended; safe to call twice."""
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> SpawnedEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self.sock.close()
