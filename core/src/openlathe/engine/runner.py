"""Turns a plan into tokens on one device: inputs, forward pass, sampling."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..layers.context import build_context
from ..spi.protocols import Model
from .attention import AttentionState
from .batch import DeviceInputs, InputBatch, StepInputs
from .graphs import step_graphs
from .pooling import Pooling, to_message
from .sampling.logprobs import PromptLogprobs, prompt_logprobs
from .sampling.processors import load_processors
from .sampling.state import Sampled, SamplingState
from .sleep import Sleeper
from .step import NewRequest, StepOutput, StepPlan
from .threads import set_threads
from .weights import load_model, weight_facts

if TYPE_CHECKING:
    from ..plugins.plan import Plan

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


@dataclass
class RunningStep:
    """A step between its forward pass and the arrival of its tokens on the host."""

    plan: StepPlan
    inputs: StepInputs | None = None
    logits: Tensor | None = None
    sampled: Sampled | None = None
    prompt_logprobs: dict[str, PromptLogprobs] = field(default_factory=dict)
    pooled: dict[str, Tensor] = field(default_factory=dict)
    host_seconds: float = 0.0

    def collect(self) -> StepOutput:
        """Waits for the tokens; everything else about the step is known already."""
        output = StepOutput(step=self.plan.step, tokens={}, host_seconds=self.host_seconds)
        output.prompt_logprobs = {request_id: found.collect() for request_id, found in self.prompt_logprobs.items()}
        output.pooled = {request_id: to_message(answer) for request_id, answer in self.pooled.items()}
        if self.sampled is not None:
            tokens, logprobs = self.sampled.collect()
            names = self.plan.sampled
            output.tokens = {request_id: [token] for request_id, token in zip(names, tokens, strict=True)}
            output.logprobs = {names[row]: [entry] for row, entry in logprobs.items()}
        return output


class ModelRunner:
    """Owns the model, its KV pages and the persistent batch of one device.

    ``execute`` runs the forward pass of a step and ``sample`` picks its tokens: two calls, so that grammar masks can
    be computed in between.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.device = torch.device(plan.device.type)
        self.facts: dict[str, Any] = {}
        self._step: RunningStep | None = None
        self._prompts: dict[str, NewRequest] = {}  # those with prompt tokens to be scored
        self.pooling: Pooling | None = None
        self._sleeper = Sleeper(self)

    @torch.inference_mode()
    def load(self, progress: Progress | None = None) -> Mapping[str, Any]:
        """Builds the model, loads its weights and reserves the KV cache; returns facts about what was made."""
        started = time.monotonic()
        set_threads(self.plan.config.cpu_threads)
        torch.manual_seed(self.plan.config.seed)
        context = build_context(self.plan)
        self.model = cast(Model, load_model(self.plan, context, progress))
        self.attention = AttentionState(self.plan, cast(nn.Module, self.model), context)
        self.batch = InputBatch(
            self.plan.max_num_seqs,
            self.plan.max_model_len,
            self.plan.block_size,
            len(self.attention.groups),
            self.device,
        )
        if self.plan.pooling is not None:
            self.pooling = Pooling(self.plan.pooling, batch_invariant=self.plan.config.batch_invariant)
        self.graphs = step_graphs(self.plan, context.operators.capture, self._decode, len(self.attention.groups))
        processors = load_processors(self.plan, context)
        self.sampling = SamplingState(
            self.plan.max_num_seqs,
            self.plan.model_config().vocab_size,
            self.device,
            processors,
            context.operators,
        )
        self.facts |= weight_facts(cast(nn.Module, self.model)) | self.attention.facts
        self.facts |= {"load_seconds": time.monotonic() - started, "threads": torch.get_num_threads()}
        return self.facts

    @torch.inference_mode()
    def execute(self, plan: StepPlan) -> None:
        """Runs the forward pass of ``plan``; the logits stay on the device until :meth:`sample`."""
        self._apply(plan)
        self._step = RunningStep(plan)
        if not plan.scheduled:
            return
        inputs = self._step.inputs = self.batch.inputs(plan)
        token_ids = self.batch.tokens(inputs)
        if self.graphs is not None and not self._prompts and inputs.is_decode:
            self._step.logits = self.graphs.run(inputs, token_ids)
        if self._step.logits is None:
            self._forward(plan, self._step, inputs, self._on_device(inputs, token_ids))

    def _decode(self, inputs: StepInputs, on_device: DeviceInputs) -> Tensor:
        """The logits [R, V] of a step in which R requests have a token each."""
        batch = self.attention.plan(inputs, on_device)
        return self.model.compute_logits(self.model.forward(on_device.token_ids, on_device.positions, batch))

    def _forward(self, plan: StepPlan, step: RunningStep, inputs: StepInputs, on_device: DeviceInputs) -> None:
        """Whatever a step's requests ask for, prompts and pooling included."""
        batch = self.attention.plan(inputs, on_device)
        batch.token_types = self._token_types(plan, inputs)
        batch.wanted = self._wanted(inputs)
        hidden = self.model.forward(on_device.token_ids, on_device.positions, batch)
        if self.pooling is not None:
            step.pooled = self.pooling.take(self.model, plan, inputs, hidden)
            return
        step.prompt_logprobs = self._prompt_logprobs(plan, inputs, hidden)
        if len(inputs.sampled):
            rows = hidden if len(inputs.logits_index) == len(hidden) else hidden[self._to_device(inputs.logits_index)]
            step.logits = self.model.compute_logits(rows)

    def _wanted(self, inputs: StepInputs) -> Tensor | None:
        """The tokens that are sampled from, and one at least; None where a request asks for others as well."""
        if self._prompts or self.pooling is not None:
            return None
        last = np.array([inputs.num_tokens - 1])
        return self._to_device(inputs.logits_index if len(inputs.sampled) else last)

    @torch.inference_mode()
    def sample(self, mask: Any | None = None) -> RunningStep:
        """Picks the tokens of the step that :meth:`execute` ran; they may still be on the device when it returns."""
        step = self._step
        assert step is not None, "a step is executed before it is sampled"
        if step.inputs is not None and self.pooling is not None:
            self.batch.compute(step.inputs)
        elif step.inputs is not None:
            tokens = torch.empty(0, dtype=torch.int64, device=self.device)
            if step.logits is not None:
                rows = step.inputs.sampled_rows
                mask = None if mask is None else self._to_device(mask)
                step.sampled = self.sampling.sample(
                    step.logits, rows, self.batch.num_tokens[rows], self.batch.token_ids, mask
                )
                tokens, step.logits = step.sampled.tokens, None
            self.batch.advance(step.inputs, tokens)
        return step

    def _apply(self, plan: StepPlan) -> None:
        """Brings batch, sampling state and pages up to date with who left and who joined."""
        for request_id in plan.removed:
            self.sampling.leave(self.batch.row_of[request_id])
            self._prompts.pop(request_id, None)
            if self.pooling is not None:
                self.pooling.leave(request_id)
        self.batch.apply(plan)
        for request in plan.new:
            self.sampling.join(self.batch.row_of[request.request_id], request)
            if self.pooling is not None:
                self.pooling.join(request)
            if request.sampling.prompt_logprobs is not None:
                self._prompts[request.request_id] = request
        self.attention.copy_blocks([request.copied_blocks for request in plan.new if request.copied_blocks])

    def _prompt_logprobs(self, plan: StepPlan, inputs: StepInputs, hidden: Tensor) -> dict[str, PromptLogprobs]:
        """Log-probabilities of the prompt tokens behind those that were computed, where they were asked for."""
        found = {}
        for index, request_id in enumerate(plan.scheduled) if self._prompts else ():
            request = self._prompts.get(request_id)
            if request is None:
                continue
            start, end = inputs.query_start[index : index + 2].tolist()
            first = int(inputs.positions[start])
            left = request.num_prompt_tokens - 1 - first
            if left <= end - start:
                del self._prompts[request_id]
            skipped, count = max(request.num_prompt_logprobs - first, 0), min(end - start, left)
            if skipped < count:
                row = self.batch.row_of[request_id]
                targets = self.batch.token_ids[row, first + skipped + 1 : first + count + 1].long()
                chunk = hidden[start + skipped : start + count]
                wanted = request.sampling.prompt_logprobs or 0
                found[request_id] = prompt_logprobs(chunk, targets, wanted, self.model.compute_logits)
        return found

    # -- sleep --------------------------------------------------------------------------------------------------------

    def sleep(self, level: int) -> None:
        """Gives memory back, see :mod:`.sleep`; not to be called while requests run."""
        if self.graphs is not None:
            self.graphs.forget()
        self._sleeper.sleep(level)

    def wake_up(self, tag: str) -> None:
        """Gets the memory of ``tag`` back, which the engine needs before its next step."""
        self._sleeper.wake_up(tag)

    # -- inputs of a step ---------------------------------------------------------------------------------------------

    def _token_types(self, plan: StepPlan, inputs: StepInputs) -> Tensor | None:
        """[T] int64, or None where nobody has segments; those who do are computed in the step in which they join."""
        given = {request.request_id: request.token_type_ids for request in plan.new if request.token_type_ids}
        if not given:
            return None
        types = np.zeros(inputs.num_tokens, np.int64)
        for index, request_id in enumerate(plan.scheduled):
            if request_id in given:
                types[inputs.query_start[index] : inputs.query_start[index + 1]] = given[request_id]
        return self._to_device(types)

    def _on_device(self, inputs: StepInputs, token_ids: Tensor) -> DeviceInputs:
        return DeviceInputs(
            token_ids=token_ids,
            positions=self._to_device(inputs.positions),
            query_start=self._to_device(inputs.query_start),
            seq_lens=self._to_device(inputs.seq_lens),
            block_tables=[self._to_device(table) for table in inputs.block_tables],
            slot_mappings=[self._to_device(slots) for slots in inputs.slot_mappings],
        )

    def _to_device(self, array: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor if self.device.type == "cpu" else tensor.to(self.device, non_blocking=True)
