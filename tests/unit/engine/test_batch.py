"""The persistent batch: inputs made from those of the step before equal inputs made anew."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openlathe.engine.batch import InputBatch, StepInputs
from openlathe.engine.messages import SamplingParams
from openlathe.engine.step import NewRequest, StepPlan

ROWS, LENGTH, BLOCK_SIZE, GROUPS = 4, 64, 4, 2


class Requests:
    """Requests that join, take tokens and leave, as a scheduler would order them."""

    def __init__(self) -> None:
        self.batch = InputBatch(ROWS, LENGTH, BLOCK_SIZE, GROUPS)
        self.left: dict[str, int] = {}  # tokens that are still to be computed before the request decodes
        self.lengths: dict[str, int] = {}
        self.block = 0

    def join(self, name: str, tokens: int) -> NewRequest:
        self.left[name], self.lengths[name] = tokens, tokens
        blocks = [[self._new() for _ in range(LENGTH // BLOCK_SIZE)] for _ in range(GROUPS)]
        return NewRequest(
            request_id=name,
            token_ids=list(range(tokens)),
            num_prompt_tokens=tokens,
            num_computed_tokens=0,
            block_ids=blocks,
            sampling=SamplingParams(),
            seed=0,
        )

    def plan(self, step: int, **changes: Any) -> StepPlan:
        scheduled = {name: max(left, 1) for name, left in self.left.items()}
        return StepPlan(step=step, scheduled=scheduled, sampled=list(scheduled), **changes)

    def run(self, plan: StepPlan) -> StepInputs:
        inputs = self.batch.inputs(plan)
        self.batch.advance(inputs, torch.arange(len(inputs.sampled)) + 7)
        for name in plan.scheduled:
            self.left[name] = 0
            self.lengths[name] += 1
        return inputs

    def _new(self) -> int:
        self.block += 1
        return self.block


events = st.lists(st.sampled_from(["nothing", "nothing", "join", "leave", "swap"]), min_size=1, max_size=25)


@given(events, st.data())
@settings(max_examples=60, deadline=None)
def test_the_inputs_of_a_step_do_not_depend_on_the_step_before(events: list[str], data: st.DataObject) -> None:
    requests, names = Requests(), iter(map(str, range(100)))
    for step, event in enumerate(events):
        full = [name for name, length in requests.lengths.items() if length + 1 >= LENGTH]
        leaves = set(full)
        if event in ("leave", "swap") and requests.left:
            leaves.add(data.draw(st.sampled_from(sorted(requests.left))))
        for name in leaves:
            del requests.left[name], requests.lengths[name]
        joins = event in ("join", "swap") and len(requests.left) < ROWS
        new = [requests.join(next(names), data.draw(st.integers(1, 9)))] if joins else []
        plan = requests.plan(step, new=new, removed=sorted(leaves))
        requests.batch.apply(plan)
        if not plan.scheduled:
            continue
        anew = requests.batch._inputs(plan, decodes=plan.num_tokens == len(plan.scheduled))
        inputs = requests.run(plan)
        for field in fields(StepInputs):
            mine, truth = getattr(inputs, field.name), getattr(anew, field.name)
            for one, other in zip(*((x if isinstance(x, list) else [x]) for x in (mine, truth)), strict=True):
                assert np.array_equal(one, other), field.name
                assert not hasattr(other, "dtype") or one.dtype == other.dtype, field.name


@pytest.mark.parametrize(
    ("scheduled", "sampled", "expected"),
    [
        ({"a": 1, "b": 1}, ["a", "b"], True),
        ({"a": 1, "b": 2}, ["a", "b"], False),
        ({"a": 1, "b": 1}, ["a"], False),
        ({"a": 1, "b": 1}, ["b", "a"], False),
    ],
)
def test_a_decode_step_is_one_token_each_sampled_in_order(
    scheduled: dict[str, int], sampled: list[str], expected: bool
) -> None:
    requests = Requests()
    joining = StepPlan(step=0, scheduled={}, new=[requests.join(name, 3) for name in scheduled])
    requests.batch.apply(joining)
    inputs = requests.batch.inputs(StepPlan(step=1, scheduled=scheduled, sampled=sampled))
    assert inputs.is_decode is expected


def test_tokens_are_read_where_sampling_wrote_them() -> None:
    requests = Requests()
    requests.batch.apply(StepPlan(step=0, scheduled={}, new=[requests.join("a", 3), requests.join("b", 1)]))
    first = requests.run(requests.plan(0))
    assert requests.batch.tokens(first).tolist() == [0, 1, 2, 0]
    second = requests.batch.inputs(requests.plan(1))
    assert second.positions.tolist() == [3, 1]
    assert requests.batch.tokens(second).tolist() == [7, 8]
