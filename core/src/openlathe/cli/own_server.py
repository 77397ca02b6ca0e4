"""A server that a command starts for itself: its settings and environment, why it did not start, its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any

from ..config import EngineConfig, ServerConfig
from ..plugins.policy import Policy
from ..spi.errors import OpenlatheError

_STOP_SECONDS = 10.0


class OwnServer:
    """``serve`` for ``config`` with ``flags`` besides, from entering the context to leaving it.

    ``folder`` exists for as long and gets its settings and its log. It is a session of its own, so that Ctrl-C means
    the command and not the server.
    """

    def __init__(self, config: EngineConfig, policy: Policy, folder: Path, *flags: str) -> None:
        settings, self._log = folder / "settings.yaml", folder / "server.log"
        settings.write_text(json.dumps(settings_of(config, policy)), encoding="utf-8")  # JSON is YAML
        self._command = [sys.executable, "-m", "openlathe", "serve", "--config", str(settings), *flags]
        self._command += ["--locked", policy.locked] if policy.locked else []

    def __enter__(self) -> OwnServer:
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                self._command,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self

    def wait(self, ready: Callable[[], bool], *, poll_seconds: float) -> None:
        """Returns when ``ready()``; raises ``OpenlatheError`` with the reason the server gave for not starting."""
        while self._process.poll() is None:
            if ready():
                return
            time.sleep(poll_seconds)
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reasons = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        raise OpenlatheError(reasons[-1] if reasons else "\n".join(["The server did not start.", *lines[-5:]]))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def settings_of(config: EngineConfig, policy: Policy) -> dict[str, Any]:
    """What differs from the defaults, as the file that ``--config`` reads."""
    default = EngineConfig()
    settings = {name: value for name, value in vars(config).items() if value != getattr(default, name)}
    plugins: dict[str, Any] = {"autoload": policy.autoload, "prefer": dict(policy.prefer)}
    plugins |= {"block": sorted(policy.block), "require": list(policy.require)}
    if policy.allow is not None:
        plugins["allow"] = sorted(policy.allow)
    return {**settings, "plugins": plugins}


def _environment() -> dict[str, str]:
    """Ours, without what is meant for public servers: a key that nobody would send, TLS, a path prefix."""
    public = {"VLLM_API_KEY", *(f"OPENLATHE_{item.name.upper()}" for item in fields(ServerConfig))}
    return {name: value for name, value in os.environ.items() if name not in public}
