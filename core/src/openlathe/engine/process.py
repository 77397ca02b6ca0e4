"""The engine core in a process of its own: ``python -m openlathe.engine.process DESCRIPTOR``.

DESCRIPTOR is the number of a connected socket that the client has handed down. The first message is the plan as JSON;
what follows are the structs of :mod:`openlathe.engine.messages`, encoded with msgspec. The client tells the process
when to stop; where the client is gone it stops by itself.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import sys
import traceback

import msgspec

from ..collector import collector_paused
from ..spi.errors import OpenlatheError
from .link import EngineLink
from .messages import Call, EngineDead, EngineReady, FromEngine, Reply, ToEngine

logger = logging.getLogger(__name__)


class EngineProcess:
    """The loop around one ``EngineCore``: take in what has come, run a step, send what it brought."""

    def __init__(self, link: EngineLink) -> None:
        self._link = link
        self._decoder = msgspec.msgpack.Decoder(ToEngine)
        self._encoder = msgspec.msgpack.Encoder()

    def run(self) -> int:
        """Serves until told to stop; the exit status. Whatever goes wrong reaches the client as EngineDead."""
        try:
            with collector_paused():
                self._load()
            self._serve()
        except EOFError:
            pass
        except Exception as error:
            refused = isinstance(error, OpenlatheError) and not hasattr(self, "_core")
            if not refused:
                traceback.print_exc()
            reason = str(error) if refused else f"The engine stopped: {type(error).__name__}: {error}"
            self._send(EngineDead(reason=reason, refused=refused))
            return 2 if refused else 1
        finally:
            if hasattr(self, "_core"):
                self._core.stop()  # waits for the steps under way, for which a client in need of news does not
            self._link.close()
        return 0

    def _load(self) -> None:
        """Builds the engine from the plan."""
        with contextlib.suppress(ImportError):  # which a plan that asks for torch will tell
            import torch  # noqa: F401  while the client makes the plan
        while not (messages := self._link.receive(wait=True)):
            pass
        plan_data = json.loads(messages[0])
        # Imported here so that a failing import of torch reaches the client like every other cause.
        from ..plugins.plan import Plan
        from .core import EngineCore

        self._core = EngineCore(Plan.from_dict(plan_data))
        self._send(EngineReady(facts=dict(self._core.facts)))

    def _serve(self) -> None:
        while self._receive():
            if self._core.has_work:
                self._send(self._core.step())
                self._core.wait()

    def _receive(self) -> bool:
        """Takes in what has come, waiting for it while there is no work; False: stop."""
        for data in self._link.receive(wait=not self._core.has_work):
            message = self._decoder.decode(data)
            if isinstance(message, Call) and message.method == "shutdown":
                self._send(Reply(call_id=message.call_id))
                return False
            reply = self._core.handle(message)
            if reply is not None:
                self._send(reply)
        return True

    def _send(self, message: FromEngine) -> None:
        self._link.send(self._encoder.encode(message))


def main() -> int:
    logging.basicConfig(
        level=os.environ.get("OPENLATHE_LOG_LEVEL", "INFO"), format="%(levelname)s %(name)s: %(message)s"
    )
    (descriptor,) = sys.argv[1:]
    return EngineProcess(EngineLink(socket.socket(fileno=int(descriptor)))).run()


if __name__ == "__main__":
    sys.exit(main())
