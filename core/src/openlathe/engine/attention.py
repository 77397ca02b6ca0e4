"""Attention in the engine: a backend for each KV group, the pages of every layer, and the plans of a step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..layers.attention import attention_layers
from ..layers.context import BuildContext
from ..spi.kv import EncoderOnly
from ..spi.protocols import AttentionBackend, AttentionBatch, ModelBatch
from .batch import DeviceInputs, StepInputs
from .kv_memory import PagedGroup, allocate_pages, buffers_of, paged_groups, plan_blocks

if TYPE_CHECKING:
    from ..plugins.plan import Plan


class AttentionState:
    """``groups`` have pages, and a block table each in every step; groups behind them in the plan's backends keep none.

    ``facts`` say how large the KV cache is.
    """

    def __init__(self, plan: Plan, model: nn.Module, context: BuildContext) -> None:
        self.block_size = plan.block_size
        self.groups = paged_groups(plan)
        unpaged = [
            PagedGroup(slot, group.spec, group.layers)
            for slot, group in enumerate(plan.kv_groups)
            if isinstance(group.spec, EncoderOnly)
        ]
        config = plan.model_config()
        every = [*self.groups, *unpaged]
        self._backends: list[AttentionBackend] = [
            plan.resolve(f"attention.{group.slot}")(group.spec, config.num_heads, plan.block_size, context)
            for group in every
        ]
        group_of = {layer: index for index, group in enumerate(every) for layer in group.layers}
        self._group_of_layer = [group_of.get(layer) for layer in range(config.num_layers)]
        layouts = [backend.kv_layout(group.spec) for backend, group in zip(self._backends, self.groups, strict=False)]
        memory = plan_blocks(plan, self.groups, layouts, context.kv_dtype, context.device)
        pages = allocate_pages(self.groups, layouts, memory.num_blocks, context.kv_dtype, context.device)
        self._buffers = buffers_of(self.groups, pages)
        for layer in attention_layers(model):
            if layer.index in pages:
                layer.pages = pages[layer.index]
        self.facts = {
            "num_blocks": memory.num_blocks,
            "block_size": plan.block_size,
            "kv_cache_bytes": memory.num_blocks * memory.block_bytes,
            "max_model_len": plan.max_model_len,
        }

    def plan(self, inputs: StepInputs, on_device: DeviceInputs) -> ModelBatch:
        """Each backend's plan of a step, for every layer that it serves."""
        unpaged = len(self._backends) - len(self.groups)
        tables = on_device.block_tables + [on_device.seq_lens[:, None][:, :0]] * unpaged
        slot_mappings = on_device.slot_mappings + [on_device.positions[:0]] * unpaged
        plans = [
            backend.plan(
                AttentionBatch(
                    num_requests=len(inputs.rows),
                    num_tokens=inputs.num_tokens,
                    query_start=inputs.query_start,
                    seq_lens_bound=inputs.seq_lens,
                    query_start_device=on_device.query_start,
                    seq_lens=on_device.seq_lens,
                    block_table=table,
                    slot_mapping=slots,
                    block_size=self.block_size,
                )
            )
            for backend, table, slots in zip(self._backends, tables, slot_mappings, strict=True)
        ]
        groups = self._group_of_layer
        return ModelBatch(
            backends=[None if group is None else self._backends[group] for group in groups],
            plans=[None if group is None else plans[group] for group in groups],
        )

    def copy_blocks(self, copies: Sequence[Sequence[tuple[int, int]]]) -> None:
        """Fills the first blocks of forks; ``copies`` has, per request, (source, target) for each group."""
        if not copies:
            return
        by_group = torch.tensor(copies).transpose(0, 1)
        for pages, groups in self._buffers:
            # What one group writes may be what another one reads, so that all of them are read first.
            sources, targets = by_group[groups].flatten(0, 1).to(pages.k.device).unbind(-1)
            for page in pages:
                page[targets] = page[sources]
