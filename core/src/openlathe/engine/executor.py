"""The executor of one process: the runner lives where the scheduler lives."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from ..plugins.plan import Plan
from ..spi.errors import PluginError
from .runner import ModelRunner
from .step import StepOutput, StepPlan


class UniprocExecutor:
    """Runs steps on one device in this process; see :class:`openlathe.spi.protocols.Executor`."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._runner = ModelRunner(Plan.from_dict(dict(plan)))

    def start(self) -> Mapping[str, Any]:
        with tqdm(
            desc="Loading weights", unit="B", unit_scale=True, leave=False, disable=not sys.stderr.isatty()
        ) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            return self._runner.load(progress)

    def execute(self, plan: StepPlan) -> None:
        self._runner.execute(plan)

    def sample(self, mask: Any | None = None) -> StepOutput:
        return self._runner.sample(mask)

    def call(self, method: str, *args: Any) -> Any:
        target = getattr(self._runner, method, None)
        if target is None or method.startswith("_"):
            raise PluginError(f"The worker has no method {method!r}; this engine cannot do that.", kind="executor")
        return target(*args)

    def stop(self) -> None:
        """Nothing outlives the process."""
