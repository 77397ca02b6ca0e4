"""Attention that reads pages where they lie; one algorithm for single tokens, chunks and whole prompts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from openlathe.kernels.attend import AttendPlan
from openlathe.kernels.attend import attend as reference
from openlathe.kernels.pages import LANES, knows, value_size
from openlathe.spi import KVPages

from .calls import arguments, empty, operator
from .linear import NAMES

Attend = arguments(
    "Attend",
    pointers="q k v out lse sinks query_start seq_lens block_table",
    integers="q_token q_head k_page k_head k_token v_page v_head v_token table_row "
    "requests heads kv_heads dim_k dim_v block_size lanes causal window",
    reals="scale soft_cap",
)


@knows("lanes", "hnd", "nhd")
def attend(
    q: Tensor,
    pages: KVPages,
    plan: AttendPlan,
    *,
    scale: float,
    window: int | None = None,
    soft_cap: float | None = None,
    sinks: Tensor | None = None,
    return_lse: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """:func:`openlathe.kernels.attend.attend`; dtypes without a native function are left to it."""
    name = _function(q.dtype, pages.k.dtype, plan.layout)
    if name is None:
        return reference(
            q, pages, plan, scale=scale, window=window, soft_cap=soft_cap, sinks=sinks, return_lse=return_lse
        )
    tokens, heads, dim_k = q.shape
    dim_v = value_size(pages, plan.layout)
    q = _rows(q)
    if sinks is not None:
        sinks = sinks.float().contiguous()
    out = empty((tokens, heads, dim_v), q.dtype)
    lse = empty((tokens, heads), torch.float32) if return_lse else None
    query_start, seq_lens, block_table = _of_plan(plan)
    operator(name)(
        Attend(
            q.data_ptr(),
            pages.k.data_ptr(),
            pages.v.data_ptr(),
            out.data_ptr(),
            None if lse is None else lse.data_ptr(),
            None if sinks is None else sinks.data_ptr(),
            query_start.data_ptr(),
            seq_lens.data_ptr(),
            block_table.data_ptr(),
            *q.stride()[:2],
            *steps(pages.k, plan.layout),
            *steps(pages.v, plan.layout),
            block_table.stride(0),
            plan.num_requests,
            heads,
            pages.k.shape[2 if plan.layout == "nhd" else 1],
            dim_k,
            dim_v,
            plan.block_size,
            plan.layout == "lanes",
            plan.causal,
            window or 0,
            scale,
            soft_cap or 0.0,
        )
    )
    return out, lse


def attend_latent(
    q: Tensor, pages: Tensor, plan: AttendPlan, *, latent: int, scale: float, return_lse: bool = False
) -> tuple[Tensor, Tensor | None]:
    """:func:`openlathe.kernels.attend_latent.attend_latent`, as one head whose values lie in its keys."""
    keys = pages.unsqueeze(1)
    return attend(q, KVPages(keys, keys[..., :latent]), plan, scale=scale, return_lse=return_lse)


def steps(page: Tensor, layout: str) -> tuple[int, int, int]:
    """Elements from one page to the next, from head to head, and from token to token, in ``lanes`` of LANES tokens."""
    first, second, third = page.stride()[:3]
    if layout == "nhd":
        return first, third, second
    if layout == "hnd":
        return first, second, third
    return first, second, third if page.dim() == 6 else third * LANES // page.shape[-1]


def _function(dtype: torch.dtype, kv_dtype: torch.dtype, layout: str) -> str | None:
    if dtype in NAMES and kv_dtype == dtype:
        return f"attend_{NAMES[dtype]}"
    if dtype in NAMES and kv_dtype == torch.int8 and layout == "lanes":
        return f"attend_int8_{NAMES[dtype]}"
    return None


def _of_plan(plan: AttendPlan) -> tuple[Tensor, Tensor, Tensor]:
    """Query starts, lengths and block table, as they lie wherever a native operator can read them so."""
    found: Any = plan.derived.get("cpu-attend")
    if found is None:
        found = (
            plan.query_start_device.int().contiguous(),
            plan.seq_lens.int().contiguous(),
            _rows(plan.block_table.int()),
        )
        plan.derived["cpu-attend"] = found
    return found


def _rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()
