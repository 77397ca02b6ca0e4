"""Turns a plan into tokens on one device: inputs, forward pass, sampling."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..layers.attention import attention_layers
from ..layers.context import build_context
from ..spi.protocols import AttentionBackend, AttentionBatch, Model, ModelBatch
from .batch import InputBatch, StepInputs
from .kv_memory import allocate_pages, paged_groups, plan_blocks
from .messages import TokenLogprobs
from .sampler import SamplingBatch, sample
from .step import StepOutput, StepPlan
from .weights import load_model, weight_facts

if TYPE_CHECKING:
    from ..plugins.plan import Plan

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


class ModelRunner:
    """Owns the model, its KV pages and the persistent batch of one device.

    ``execute`` runs the forward pass of a step and ``sample`` picks its tokens: two calls, so that grammar masks can
    be computed in between.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.device = torch.device(plan.device.type)
        self.facts: dict[str, Any] = {}
        self._logits: Tensor | None = None
        self._pending: tuple[StepPlan, StepInputs] | None = None

    @torch.inference_mode()
    def load(self, progress: Progress | None = None) -> Mapping[str, Any]:
        """Builds the model, loads its weights and reserves the KV cache; returns facts about what was made."""
        started = time.monotonic()
        _set_threads()
        torch.manual_seed(self.plan.config.seed)
        context = build_context(self.plan)
        self.model = cast(Model, load_model(self.plan, context, progress))
        self._attach_attention(context)
        self.batch = InputBatch(
            self.plan.max_num_seqs,
            self.plan.max_model_len,
            self.plan.block_size,
            len(self.groups),
            self.model_config.vocab_size,
        )
        self.facts |= weight_facts(cast(nn.Module, self.model))
        self.facts |= {"load_seconds": time.monotonic() - started, "threads": torch.get_num_threads()}
        return self.facts

    @torch.inference_mode()
    def execute(self, plan: StepPlan) -> None:
        """Runs the forward pass of ``plan``; the logits stay on the device until :meth:`sample`."""
        self.batch.apply(plan)
        self._pending = None
        if not plan.scheduled:
            return
        inputs = self.batch.inputs(plan)
        self._pending = plan, inputs
        hidden = self.model.forward(
            self._to_device(inputs.input_ids), self._to_device(inputs.positions), self._model_batch(inputs)
        )
        if len(inputs.sampled):
            rows = hidden if len(inputs.logits_index) == len(hidden) else hidden[self._to_device(inputs.logits_index)]
            self._logits = self.model.compute_logits(rows)

    @torch.inference_mode()
    def sample(self, mask: Any | None = None) -> StepOutput:
        """Picks the tokens of the step that :meth:`execute` ran."""
        if self._pending is None:
            return StepOutput(step=-1, tokens={})
        plan, inputs = self._pending
        tokens: list[int] = []
        logprobs: dict[int, TokenLogprobs] = {}
        if len(inputs.sampled):
            assert self._logits is not None
            tokens, logprobs = sample(self._logits, self._sampling_batch(inputs))
            self._logits = None
        self.batch.advance(inputs, tokens)
        return StepOutput(
            step=plan.step,
            tokens={request_id: [token] for request_id, token in zip(plan.sampled, tokens, strict=True)},
            logprobs={plan.sampled[row]: [entry] for row, entry in logprobs.items()},
        )

    # -- KV cache -----------------------------------------------------------------------------------------------------

    def _attach_attention(self, context: Any) -> None:
        """One backend per KV group, and a page for every block in every layer."""
        plan = self.plan
        self.model_config = plan.model_config()
        self.groups = paged_groups(plan)
        self._backends: list[AttentionBackend] = []
        self._group_of_layer: list[int | None] = [None] * self.model_config.num_layers
        for index, group in enumerate(self.groups):
            backend = plan.resolve(f"attention.{group.slot}")
            self._backends.append(backend(group.spec, self.model_config.num_heads, plan.block_size, context))
            for layer in group.layers:
                self._group_of_layer[layer] = index
        layouts = [backend.kv_layout(group.spec) for backend, group in zip(self._backends, self.groups, strict=True)]
        memory = plan_blocks(plan, self.groups, layouts, context.kv_dtype, self.device)
        pages = allocate_pages(self.groups, layouts, memory.num_blocks, context.kv_dtype, self.device)
        for attention in attention_layers(cast(nn.Module, self.model)):
            if attention.index in pages:
                attention.pages = pages[attention.index]
        self.facts |= {
            "num_blocks": memory.num_blocks,
            "block_size": plan.block_size,
            "kv_cache_bytes": memory.num_blocks * memory.block_bytes,
            "max_model_len": plan.max_model_len,
        }

    # -- inputs of a step ---------------------------------------------------------------------------------------------

    def _model_batch(self, inputs: StepInputs) -> ModelBatch:
        query_start = self._to_device(inputs.query_start)
        seq_lens = self._to_device(inputs.seq_lens)
        plans = [
            backend.plan(
                AttentionBatch(
                    num_requests=len(inputs.rows),
                    num_tokens=len(inputs.input_ids),
                    query_start=inputs.query_start,
                    seq_lens_bound=inputs.seq_lens,
                    query_start_device=query_start,
                    seq_lens=seq_lens,
                    block_table=self._to_device(table),
                    slot_mapping=self._to_device(slots),
                    block_size=self.plan.block_size,
                )
            )
            for backend, table, slots in zip(self._backends, inputs.block_tables, inputs.slot_mappings, strict=True)
        ]
        groups = self._group_of_layer
        return ModelBatch(
            backends=[None if group is None else self._backends[group] for group in groups],
            plans=[None if group is None else plans[group] for group in groups],
        )

    def _sampling_batch(self, inputs: StepInputs) -> SamplingBatch:
        rows, columns = inputs.rows[inputs.sampled], self.batch.sampling
        positions = self.batch.num_tokens[rows]
        too_short = positions - self.batch.num_prompt[rows] < columns.min_tokens[rows]
        return SamplingBatch(
            temperature=columns.temperature[rows],
            top_p=columns.top_p[rows],
            min_p=columns.min_p[rows],
            top_k=columns.top_k[rows],
            seed=columns.seed[rows],
            positions=positions,
            logprobs=columns.logprobs[rows],
            masked_ids=[(int(index), columns.stop_token_ids[rows[index]]) for index in np.nonzero(too_short)[0]],
        )

    def _to_device(self, array: NDArray[Any]) -> Tensor:
        tensor = torch.from_numpy(array)
        return tensor if self.device.type == "cpu" else tensor.to(self.device, non_blocking=True)


def _set_threads() -> None:
    """All cores this process may use, unless the environment has decided; torch would count physical cores only."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
