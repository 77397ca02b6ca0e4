"""Attention over paged keys and values (Kwon et al., 2023, https://arxiv.org/abs/2309.06180).

Keys and values lie in pages of ``block_size`` tokens that one pool hands out; a sequence is a list of pages. All the
work is done by the operators ``write_kv`` and ``attend``, so that one backend serves every device.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from openlathe.kernels.attend import AttendPlan
from openlathe.kernels.pages import choose_layout
from openlathe.layers.context import BuildContext
from openlathe.spi import AttentionBatch, AttentionLayer, FullKV, KVLayout


@dataclass(slots=True, frozen=True)
class PagedPlan:
    """One step: where new keys and values go, and what each query sees."""

    slot_mapping: Tensor
    attend: AttendPlan


class PagedAttention:
    """Follows :class:`openlathe.spi.AttentionBackend` for layers that keep keys and values of every position."""

    def __init__(self, kv: FullKV, num_heads: int, block_size: int, context: BuildContext) -> None:
        self.operators = context.operators
        self._kv_layout = choose_layout(
            kv, block_size, context.kv_dtype, self.operators.attend, self.operators.write_kv
        )
        self.layout = self._kv_layout.name

    def kv_layout(self, kv: FullKV) -> KVLayout:
        """That of the pages which the operators like best."""
        return self._kv_layout

    def plan(self, batch: AttentionBatch) -> PagedPlan:
        return PagedPlan(batch.slot_mapping, AttendPlan.of(batch, self.layout))

    def run(self, q: Tensor, k: Tensor, v: Tensor, layer: AttentionLayer, plan: PagedPlan) -> Tensor:
        """``q`` [T, heads, Dk], ``k`` [T, kv_heads, Dk], ``v`` [T, kv_heads, Dv] -> [T, heads, Dv]."""
        self.operators.write_kv(k, v, layer.pages, plan.slot_mapping, self.layout)
        out, _ = self.operators.attend(
            q,
            layer.pages,
            plan.attend,
            scale=layer.scale,
            window=layer.window,
            soft_cap=layer.soft_cap,
            sinks=layer.sinks,
        )
        return out
