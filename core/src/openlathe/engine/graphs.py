"""Decode steps that are captured once and replayed: from inputs to logits without Python in between.

A captured step reads its inputs where they lay when it was captured. So they lie here, for as many requests as a step
may have, and a step of R requests uses the first R places of each. What the device then does is the same whatever the
requests are, so that there is one capture for each R that occurs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..kernels.capture import CaptureOperator
from .batch import DeviceInputs, StepInputs

if TYPE_CHECKING:
    from ..plugins.plan import Plan

logger = logging.getLogger(__name__)

#: Computes logits from a step's inputs.
Forward = Callable[[StepInputs, DeviceInputs], Tensor]


class StepGraphs:
    """``forward`` as it was captured for each number of requests; ``widths`` are those of the groups' block tables."""

    def __init__(
        self, capture: CaptureOperator, forward: Forward, max_num_seqs: int, widths: list[int], device: torch.device
    ) -> None:
        self._capture = capture
        self._forward = forward
        self._replays: dict[int, Callable[[], Tensor]] = {}
        self.obstacle = ""
        self._inputs = DeviceInputs(
            token_ids=torch.zeros(max_num_seqs, dtype=torch.int64, device=device),
            positions=torch.zeros(max_num_seqs, dtype=torch.int64, device=device),
            query_start=torch.arange(max_num_seqs + 1, dtype=torch.int32, device=device),
            seq_lens=torch.zeros(max_num_seqs, dtype=torch.int32, device=device),
            block_tables=[torch.zeros(max_num_seqs, width, dtype=torch.int32, device=device) for width in widths],
            slot_mappings=[torch.zeros(max_num_seqs, dtype=torch.int64, device=device) for _ in widths],
        )

    def run(self, inputs: StepInputs, token_ids: Tensor) -> Tensor | None:
        """The logits [R, V] of a decode step, valid until the next one; None where steps cannot be captured."""
        if self.obstacle:
            return None
        on_device = self._load(inputs, token_ids)
        replay = self._replays.get(len(inputs.rows))
        return replay() if replay is not None else self._captured(inputs, on_device)

    def forget(self) -> None:
        """What was captured is gone: the memory that it uses is about to move."""
        self._replays.clear()

    def _captured(self, inputs: StepInputs, on_device: DeviceInputs) -> Tensor:
        captured = self._capture(lambda: self._forward(inputs, on_device))
        if captured.replay is None:
            self.obstacle = captured.obstacle
            logger.info("Steps run uncaptured: %s.", captured.obstacle)
        else:
            self._replays[len(inputs.rows)] = captured.replay
        return captured.output

    def _load(self, inputs: StepInputs, token_ids: Tensor) -> DeviceInputs:
        """Writes a step's inputs into the places that captured steps read."""
        fixed, requests = self._inputs, len(inputs.rows)
        fixed.token_ids[:requests].copy_(token_ids)
        fixed.positions[:requests].copy_(torch.from_numpy(inputs.positions))
        fixed.seq_lens[:requests].copy_(torch.from_numpy(inputs.seq_lens))
        for table, given in zip(fixed.block_tables, inputs.block_tables, strict=True):
            table[:requests, : given.shape[1]].copy_(torch.from_numpy(given))
        for slots, mapping in zip(fixed.slot_mappings, inputs.slot_mappings, strict=True):
            slots[:requests].copy_(torch.from_numpy(mapping))
        return DeviceInputs(
            token_ids=fixed.token_ids[:requests],
            positions=fixed.positions[:requests],
            query_start=fixed.query_start[: requests + 1],
            seq_lens=fixed.seq_lens[:requests],
            block_tables=[table[:requests] for table in fixed.block_tables],
            slot_mappings=[slots[:requests] for slots in fixed.slot_mappings],
        )


def step_graphs(plan: Plan, capture: CaptureOperator, forward: Forward, groups: int) -> StepGraphs | None:
    """Those of an engine whose model generates and whose attention backends all plan for it."""
    backends = [choice for slot, choice in plan.choices.items() if slot.startswith("attention.")]
    if plan.config.enforce_eager or plan.pooling is not None:
        return None
    if not all(choice.facts.get("graph_capture") for choice in backends):
        return None
    width = -(-plan.max_model_len // plan.block_size)
    return StepGraphs(capture, forward, plan.max_num_seqs, [width] * groups, torch.device(plan.device.type))
