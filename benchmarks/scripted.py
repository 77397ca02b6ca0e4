"""An executor that computes nothing: what is left of a server is everything around the model."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from openlathe.engine.step import StepOutput, StepPlan

STEP_SECONDS = 0.01
#: Ids that are text in the tokenizer of the tiny checkpoints.
FIRST_TOKEN, NUM_TOKENS = 300, 400


class ScriptedExecutor:
    """Steps take ``STEP_SECONDS``; tokens follow from request and step."""

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self._block_size = plan["block_size"]
        self._end = 0.0

    def start(self) -> Mapping[str, Any]:
        return {"num_blocks": 4096, "block_size": self._block_size}

    def execute(self, plan: StepPlan) -> None:
        self._plan = plan
        self._end = max(self._end, time.perf_counter()) + STEP_SECONDS

    def sample(self, mask: Any | None = None) -> ScriptedStep:
        return ScriptedStep(self._plan, self._end)

    def wait(self) -> None:
        sleep_until(self._end)

    def call(self, method: str, *args: Any) -> None:
        pass

    def stop(self) -> None:
        pass


class ScriptedStep:
    def __init__(self, plan: StepPlan, end: float) -> None:
        self._plan, self._end = plan, end

    def result(self) -> StepOutput:
        sleep_until(self._end)
        tokens = {name: [FIRST_TOKEN + hash((name, self._plan.step)) % NUM_TOKENS] for name in self._plan.sampled}
        return StepOutput(step=self._plan.step, tokens=tokens)


def sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.perf_counter(), 0))
