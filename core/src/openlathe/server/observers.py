"""Tells plugins what the server does: events in batches, off the token loop, and never at a request's expense."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import pluggy

from ..spi.protocols import EngineInfo, FinishedRequest

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 1.0
MAX_FAILURES = 3


class Observers:
    """Calls the event hooks of all plugins; one that raises is logged once and dropped after the third time."""

    def __init__(self, hooks: pluggy.PluginManager) -> None:
        self._hooks = hooks
        self._failures: Counter[str] = Counter()
        self._finished: list[FinishedRequest] = []
        self._watched = bool(hooks.hook.openlathe_request_finished.get_hookimpls())
        self._task: asyncio.Task[None] | None = None

    def request_finished(self, record: FinishedRequest) -> None:
        """Remembers ``record`` for the next batch; costs an append."""
        if self._watched:
            self._finished.append(record)

    async def start(self, info: EngineInfo) -> None:
        await asyncio.to_thread(self._tell, "openlathe_engine_started", info=info)
        if self._watched:
            self._task = asyncio.create_task(self._loop())

    async def stop(self, info: EngineInfo) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.flush()
        await asyncio.to_thread(self._tell, "openlathe_engine_stopping", info=info)

    async def flush(self) -> None:
        """Hands over what has finished since the last time."""
        records, self._finished = self._finished, []
        if records:
            await asyncio.to_thread(self._tell, "openlathe_request_finished", records=records)

    async def _loop(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            await self.flush()

    def _tell(self, hook: str, **values: Any) -> None:
        for implementation in getattr(self._hooks.hook, hook).get_hookimpls():
            plugin = str(implementation.plugin_name)
            if self._failures[plugin] >= MAX_FAILURES:
                continue
            try:
                implementation.function(*(values[name] for name in implementation.argnames))
            except Exception:
                self._failures[plugin] += 1
                if self._failures[plugin] == 1:
                    logger.exception("%s of the plugin %s raised.", hook, plugin)
                elif self._failures[plugin] == MAX_FAILURES:
                    logger.error("The plugin %s raised %d times and hears of nothing more.", plugin, MAX_FAILURES)
