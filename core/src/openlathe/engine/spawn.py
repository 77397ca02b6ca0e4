"""The engine's process before anybody knows what it will run: it imports torch while the plan is still being made.

Imports the standard library only, so that a command can start the process before it imports anything else.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType

#: How often a thread of libgomp looks for work before it sleeps, some 50 us: longer than one waits between operators,
#: shorter than between steps. Of itself it looks for milliseconds, on a CPU that the server or its neighbours need.
_SPINS = "4000"


class SpawnedEngine:
    """A process that waits for its plan, used once; ``sock`` is our end of the link that leads to it."""

    def __init__(self) -> None:
        self.sock, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "openlathe.engine.process", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment(os.environ),
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


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """What the engine's process gets: threads that spin shortly, unless ``given`` says how they wait."""
    decided = "GOMP_SPINCOUNT" in given or "OMP_WAIT_POLICY" in given
    return dict(given) if decided else {**given, "GOMP_SPINCOUNT": _SPINS}
