"""Attention backends that are each wrong in one way."""

from __future__ import annotations

from dataclasses import replace

import torch
from openlathe_plugin_paged.backend import PagedAttention

from openlathe.kernels.attend import attend
from openlathe.spi import KVPages


class _Wrong(PagedAttention):
    """The right backend on the reference operator, for others to go wrong from."""

    def run(self, q, k, v, layer, plan):
        self.operators.write_kv(k, v, layer.pages, plan.slot_mapping, self.layout)
        return self.attend(q, layer, plan.attend)

    def attend(self, q, layer, plan, pages=None, **changes):
        features = {name: getattr(layer, name) for name in ("scale", "window", "soft_cap", "sinks")} | changes
        return attend(q, pages or layer.pages, plan, **features)[0]


class ReadsOneMore(_Wrong):
    """Believes every sequence one token longer than it is."""

    def attend(self, q, layer, plan):
        longer = replace(plan, seq_lens=plan.seq_lens + 1, seq_lens_bound=plan.seq_lens_bound + 1)
        return super().attend(q, layer, longer)


class SeesTheFuture(_Wrong):
    def attend(self, q, layer, plan):
        return super().attend(q, layer, replace(plan, causal=False))


class ForgetsTheCache(_Wrong):
    """Attends within the step alone."""

    def attend(self, q, layer, plan):
        counts = plan.query_start_device.diff()
        return super().attend(q, layer, plan, window=max(1, int(counts.max())))


class MixesUpRequests(_Wrong):
    """Right for one request at a time."""

    def attend(self, q, layer, plan):
        return super().attend(q, layer, replace(plan, block_table=plan.block_table.roll(1, dims=0)))


class RemembersTheFirstStep(_Wrong):
    """Plans once into a buffer and never again for as many requests."""

    def plan(self, batch):
        self.plans = getattr(self, "plans", {})
        kept = self.plans.setdefault(batch.num_requests, super().plan(batch))
        return replace(
            kept, slot_mapping=batch.slot_mapping, attend=replace(kept.attend, query_start=batch.query_start)
        )


class StripesHeads(_Wrong):
    """Query head h reads key head h % kv_heads."""

    def attend(self, q, layer, plan):
        heads = q.shape[1]
        order = torch.arange(heads).view(-1, layer.pages.k.shape[1]).T.flatten()
        out = torch.empty_like(super().attend(q, layer, plan))
        out[:, order] = super().attend(q[:, order], layer, plan)
        return out


class ScalesForSmallHeads(_Wrong):
    """Uses the scale of a head of 32 whatever it is told."""

    def attend(self, q, layer, plan):
        return super().attend(q, layer, plan, scale=32**-0.5)


class ValuesLikeKeys(_Wrong):
    """Reads as many elements of a value as a key has."""

    def attend(self, q, layer, plan):
        missing = layer.pages.k.shape[-1] - layer.pages.v.shape[-1]
        values = torch.nn.functional.pad(layer.pages.v, (0, missing))
        return super().attend(q, layer, plan, KVPages(layer.pages.k, values))


class BlocksOfSixteen(_Wrong):
    """Counts tokens in blocks of sixteen, whatever the size."""

    def attend(self, q, layer, plan):
        bound = -(-plan.seq_lens_bound // 16) * plan.block_size
        cut = plan.seq_lens.minimum(torch.from_numpy(bound))
        return super().attend(q, layer, replace(plan, seq_lens=cut, seq_lens_bound=bound.astype("int32")))


class IgnoresTheWindow(_Wrong):
    def attend(self, q, layer, plan):
        return super().attend(q, layer, plan, window=None)


class IgnoresTheSoftCap(_Wrong):
    def attend(self, q, layer, plan):
        return super().attend(q, layer, plan, soft_cap=None)


class IgnoresTheSinks(_Wrong):
    def attend(self, q, layer, plan):
        return super().attend(q, layer, plan, sinks=None)


class ForgetsTheScales(_Wrong):
    """Takes the bytes of rounded keys and values for what they stand for."""

    def attend(self, q, layer, plan):
        pages = layer.pages
        if pages.k.dtype == torch.int8:
            pages = KVPages(*(page[..., :-4].float() for page in pages))
        return super().attend(q, layer, plan, pages)


class KeepsTheFirstLayer(_Wrong):
    """Finds in the plan what the layer before left there."""

    def attend(self, q, layer, plan):
        return super().attend(q, layer, plan, plan.derived.setdefault("pages", layer.pages))


class TrustsTheBounds(_Wrong):
    """Takes the host's upper bounds for lengths."""

    def attend(self, q, layer, plan):
        return super().attend(q, layer, replace(plan, seq_lens=torch.from_numpy(plan.seq_lens_bound)))


class SharesTooMuch(_Wrong):
    """Takes one block more for shared than it is told."""

    def plan(self, batch):
        plan = super().plan(batch)
        if batch.common_prefix_blocks:
            plan.attend.block_table[1:, : batch.common_prefix_blocks + 1] = plan.attend.block_table[0, 0]
        return plan


class PadsIntoSlotZero(_Wrong):
    """Writes keys of padding where nobody looks, it thinks."""

    def attend(self, q, layer, plan):
        layer.pages.k[0] = 0
        return super().attend(q, layer, plan)


class DependsOnTheBatch(_Wrong):
    """Declares that it does not; its last bit tells the number of requests."""

    def attend(self, q, layer, plan):
        return super().attend(q, layer, plan) * (1 + 1e-6 * plan.num_requests)
