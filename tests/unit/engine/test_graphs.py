"""Captured decode steps: each number of requests once, on inputs that keep their places."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from openlathe.engine.batch import DeviceInputs, StepInputs
from openlathe.engine.graphs import StepGraphs
from openlathe.kernels.capture import Capture, capture

ROWS, WIDTH = 4, 6


class Captures:
    """A device that repeats a step's work on the tensors the step was captured with."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, step: Callable[[], Tensor]) -> Capture:
        self.captured += 1

        def replay() -> Tensor:
            self.replayed += 1
            return step()

        return Capture(output=step(), replay=replay)


def everything(inputs: StepInputs, on_device: DeviceInputs) -> Tensor:
    """[R, 1]: a sum in which every input of a request shows."""
    requests = len(on_device.token_ids)
    total = on_device.token_ids + 10 * on_device.positions + 100 * on_device.seq_lens
    total += 1000 * on_device.slot_mappings[0] + 10_000 * on_device.block_tables[0][:, 0]
    total += 10**6 * on_device.query_start[1 : requests + 1]
    return total.view(requests, 1)


def decode(*rows: int) -> tuple[StepInputs, Tensor]:
    """A step of one token for each of ``rows``, all of whose numbers depend on the row."""
    row = np.array(rows)
    inputs = StepInputs(
        rows=row,
        token_rows=row,
        positions=row + 1,
        query_start=np.arange(len(rows) + 1, dtype=np.int32),
        seq_lens=(row + 2).astype(np.int32),
        block_tables=[np.tile(row[:, None], 2).astype(np.int32)],
        slot_mappings=[row + 3],
        sampled=np.arange(len(rows)),
        logits_index=np.arange(len(rows)),
        is_decode=True,
    )
    return inputs, torch.from_numpy(row + 4)


def eagerly(inputs: StepInputs, token_ids: Tensor) -> Tensor:
    return everything(
        inputs,
        DeviceInputs(
            token_ids=token_ids,
            positions=torch.from_numpy(inputs.positions),
            query_start=torch.from_numpy(inputs.query_start),
            seq_lens=torch.from_numpy(inputs.seq_lens),
            block_tables=[torch.from_numpy(table) for table in inputs.block_tables],
            slot_mappings=[torch.from_numpy(slots) for slots in inputs.slot_mappings],
        ),
    )


def graphs(captures: Callable[[Callable[[], Tensor]], Capture]) -> StepGraphs:
    return StepGraphs(captures, everything, ROWS, [WIDTH], torch.device("cpu"))


def test_each_size_is_captured_once_and_replayed_on_new_inputs() -> None:
    captures = Captures()
    steps = graphs(captures)
    for rows in ((0, 1), (2, 3), (1,), (3, 0), (2,), (0, 1, 2, 3), (3, 2, 1, 0)):
        inputs, token_ids = decode(*rows)
        logits = steps.run(inputs, token_ids)
        assert logits is not None
        assert torch.equal(logits, eagerly(inputs, token_ids))
    assert (captures.captured, captures.replayed) == (3, 4)


def test_what_cannot_be_captured_runs_once_and_is_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    tried = []
    steps = graphs(lambda step: tried.append(step) or capture(step))  # type: ignore[func-returns-value]
    inputs, token_ids = decode(0, 1)
    with caplog.at_level("INFO"):
        logits = steps.run(inputs, token_ids)
    assert logits is not None
    assert torch.equal(logits, eagerly(inputs, token_ids))
    assert steps.run(inputs, token_ids) is None
    assert len(tried) == 1
    assert "Steps run uncaptured: no kernel is installed that captures steps." in caplog.text


def test_what_is_forgotten_is_captured_again() -> None:
    captures = Captures()
    steps = graphs(captures)
    for _ in range(2):
        steps.run(*decode(0))
        steps.forget()
    assert (captures.captured, captures.replayed) == (2, 0)
