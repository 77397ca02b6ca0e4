"""Operators that are each wrong in one way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from openlathe.kernels.attend import attend
from openlathe.kernels.attend_latent import attend_latent
from openlathe.kernels.capture import Capture
from openlathe.kernels.draw import Filters, draw
from openlathe.kernels.embedding import embedding
from openlathe.kernels.experts import GroupedExperts
from openlathe.kernels.head_linear import head_linear
from openlathe.kernels.int4_linear import Int4Linear
from openlathe.kernels.int8_linear import Int8Linear
from openlathe.kernels.linear import PlainLinear
from openlathe.kernels.pages import LAYOUTS, by_token, knows, quantise
from openlathe.kernels.rms_norm import rms_norm
from openlathe.kernels.rotary import rotary
from openlathe.kernels.silu_mul import silu_mul
from openlathe.kernels.write_kv import write_kv
from openlathe.kernels.write_latent import write_latent
from openlathe.spi import KVPages


def capture_a_picture(step):
    output = step()
    return Capture(output=output, replay=lambda: output)


def capture_without_a_reason(step):
    return Capture(output=step())


def capture_what_fails(step):
    try:
        return Capture(output=step(), obstacle="it was not tried")
    except LookupError:
        return Capture(output=torch.zeros(1), obstacle="it failed")


def embedding_of_the_next_row(ids, weight):
    return embedding((ids + 1) % len(weight), weight)


def greedy_for_the_last(scores):
    return scores.shape[-1] - 1 - scores.flip(-1).max(-1).indices


def draw_before_the_temperature(scores, temperature, filters, uniform):
    return draw(scores, np.ones_like(temperature), filters, uniform)


def draw_without_filters(scores, temperature, filters, uniform):
    nothing = Filters(top_k=filters.top_k * 0, top_p=filters.top_p * 0 + 1, min_p=filters.min_p * 0)
    return draw(scores, temperature, nothing, uniform)


def draw_from_one_row(scores, temperature, filters, uniform):
    first = Filters(*(np.full_like(x, x[0]) for x in (filters.top_k, filters.top_p, filters.min_p)))
    return draw(scores, temperature, first, uniform)


def draw_of_the_first_row(scores, temperature, filters, uniform):
    return draw(scores[:1].expand_as(scores), temperature, filters, uniform)


def draw_in_half(scores, temperature, filters, uniform):
    if scores.dtype == torch.float32:
        raise TypeError("expected scores in half precision")
    return draw(scores, temperature, filters, uniform)


def draw_in_place(scores, temperature, filters, uniform):
    tokens = draw(scores, temperature, filters, uniform)
    scores[0].zero_()
    return tokens


def draw_what_is_masked(scores, temperature, filters, uniform):
    tokens = draw(scores, temperature, filters, uniform)
    return torch.where(torch.from_numpy(uniform == 0), 0, tokens)


def draw_no_number(scores, temperature, filters, uniform):
    if scores.isnan().any():
        raise FloatingPointError("a score is not a number")
    return draw(scores, temperature, filters, uniform)


def norm_in_float32(x, weight, eps):
    return rms_norm(x.float(), weight.float(), eps)


def norm_without_eps(x, weight, eps):
    return rms_norm(x, weight, 0.0)


def norm_in_place(x, weight, eps):
    return x.copy_(rms_norm(x, weight, eps))


def silu_of_the_second_half(x):
    return silu_mul(x.roll(x.shape[-1] // 2, dims=-1))


def gelu_by_the_error_function(x):
    gate, value = x.chunk(2, dim=-1)
    return torch.nn.functional.gelu(gate) * value


def gelu_of_one_form(x, tanh=False):
    return torch.nn.functional.gelu(x)


def rotary_of_halves(positions, q, k, cos_sin, interleaved=False):
    return rotary(positions, q, k, cos_sin)


def rotary_of_everything(positions, q, k, cos_sin, interleaved=False):
    missing = q.shape[-1] // 2 - cos_sin.shape[-1] // 2
    cos, sin = (torch.nn.functional.pad(half, (0, missing), value=0.5) for half in cos_sin.chunk(2, dim=-1))
    return rotary(positions, q, k, torch.cat([cos, sin], dim=-1), interleaved)


def linear_without_bias(weight, bias=None):
    return PlainLinear(weight, None)


def linear_that_copies(weight, bias=None):
    packed = PlainLinear(weight.clone(), bias)
    packed.nbytes = 0
    return packed


def linear_in_halves(weight, bias=None):
    """Rounds to bfloat16 whatever it is given."""
    packed = PlainLinear(weight.bfloat16(), None if bias is None else bias.bfloat16())
    return lambda x: packed(x.bfloat16()).to(x.dtype)


def int8_linear_in_floats(weight, scales, bias=None):
    """Inputs are not rounded."""
    packed = PlainLinear(weight * scales[:, None], None if bias is None else bias.float())
    return lambda x: packed(x.float()).to(x.dtype)


def int8_linear_clamped(weight, scales, bias=None):
    """The greatest weights are taken for smaller ones."""
    return _Clamped(weight, scales, bias)


class _Clamped(Int8Linear):
    def __call__(self, x):
        near = self.weight.clamp(-126, 126)
        return Int8Linear(near, self.scales, self.bias)(x)


def int8_linear_in_place(weight, scales, bias=None):
    return _InPlace(weight, scales, bias)


class _InPlace(Int8Linear):
    def __call__(self, x):
        y = super().__call__(x)
        x.mul_(2)
        return y


def int4_linear_around_the_middle(weight, scales, zeros=None, bias=None):
    return Int4Linear(weight, scales, None, bias)


def int4_linear_for_nothing(weight, scales, zeros=None, bias=None):
    packed = Int4Linear(weight, scales, zeros, bias)
    packed.nbytes = 0
    return packed


def experts_without_biases(gate_up, down, gate, gate_up_bias=None, down_bias=None):
    return GroupedExperts(PlainLinear, gate_up, down, gate)


def experts_with_a_gate_of_their_own(gate_up, down, gate, gate_up_bias=None, down_bias=None):
    return GroupedExperts(PlainLinear, gate_up, down, silu_mul, gate_up_bias, down_bias)


def experts_unweighted(*tensors):
    packed = GroupedExperts(PlainLinear, *tensors)
    return lambda x, chosen, weights: packed(x, chosen, torch.ones_like(weights))


def experts_all_at_once(gate_up, down, gate, gate_up_bias=None, down_bias=None):
    return _AllAtOnce(PlainLinear, gate_up, down, gate, gate_up_bias, down_bias)


class _AllAtOnce(GroupedExperts):
    """Those that were not chosen with a weight of zero."""

    nbytes = 0

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.nbytes = 0

    def __call__(self, x, chosen, weights):
        count = len(self.gate_up)
        everyone = torch.arange(count).expand(len(x), -1)
        return super().__call__(x, everyone, torch.zeros(len(x), count).scatter(1, chosen, weights))


def experts_by_the_rows(*tensors):
    return GroupedExperts(_ByTheRows, *tensors)


def merge_into_nan(out_a, lse_a, out_b, lse_b):
    lse = torch.log(torch.exp(lse_a) + torch.exp(lse_b))
    share_a, share_b = (torch.exp(part - lse).unsqueeze(-1) for part in (lse_a, lse_b))
    return (out_a * share_a + out_b * share_b).to(out_a.dtype), lse


def write_heads_first(k, v, pages, slot_mapping, layout):
    """Takes ``nhd`` pages for ``hnd`` ones."""
    if layout == "nhd":
        pages = KVPages(*(page.view(page.shape[0], page.shape[2], page.shape[1], page.shape[3]) for page in pages))
    write_kv(k, v, pages, slot_mapping, "hnd")


@knows(*LAYOUTS)
def write_lanes_by_rows(k, v, pages, slot_mapping, layout):
    """Takes ``lanes`` pages for ``hnd`` ones."""
    if layout == "lanes":
        pages = _as_rows(pages, k.shape[-1], v.shape[-1])
    write_kv(k, v, pages, slot_mapping, "nhd" if layout == "nhd" else "hnd")


def write_with_one_scale(k, v, pages, slot_mapping, layout):
    """All heads of a rounded token share a scale."""
    for rows, view in zip((k, v), by_token(pages, layout), strict=True):
        block, slot = slot_mapping // view.shape[1], slot_mapping % view.shape[1]
        if view.dtype == torch.int8:
            together = quantise(rows.flatten(1))
            scales = together[:, None, -4:].expand(-1, rows.shape[1], -1)
            rows = torch.cat([together[:, :-4].view(rows.shape), scales], dim=-1)
        view[block, slot, 0] = rows.to(view.dtype)


def _as_rows(pages, *sizes):
    blocks, heads = pages.k.shape[:2]
    return KVPages(*(page.view(blocks, heads, -1, size) for page, size in zip(pages, sizes, strict=True)))


@knows(*LAYOUTS)
def attend_to_lanes_by_rows(q, pages, plan, **features):
    """Takes ``lanes`` pages for ``hnd`` ones."""
    if plan.layout == "lanes":
        pages, plan = _as_rows(pages, q.shape[-1], pages.v.shape[3]), replace(plan, layout="hnd")
    return attend(q, pages, plan, **features)


def attend_without_scales(q, pages, plan, **features):
    """Takes the bytes of rounded keys and values for what they stand for."""
    if pages.k.dtype == torch.int8:
        pages = KVPages(*(page[..., :-4].float() for page in pages))
    return attend(q, pages, plan, **features)


def attend_at_once(q, pages, plan, **features):
    return attend(q, pages, replace(plan, causal=False), **features)


def attend_scaled(q, pages, plan, *, scale, **features):
    return attend(q, pages, plan, scale=32**-0.5, **features)


def attend_causally(q, pages, plan, **features):
    return attend(q, pages, replace(plan, causal=True), **features)


def attend_without_window(q, pages, plan, *, window=None, **features):
    return attend(q, pages, plan, **features)


def attend_without_soft_cap(q, pages, plan, *, soft_cap=None, **features):
    return attend(q, pages, plan, **features)


def attend_with_late_sinks(q, pages, plan, *, sinks=None, **features):
    """The sinks are in the denominator and not in the lse."""
    out, _ = attend(q, pages, plan, sinks=sinks, **features)
    return out, attend(q, pages, plan, **features)[1]


def attend_to_the_bounds(q, pages, plan, **features):
    return attend(q, pages, replace(plan, seq_lens=torch.from_numpy(plan.seq_lens_bound)), **features)


def head_linear_of_the_first_head(x, weight):
    return head_linear(x, weight[:1].expand_as(weight))


def write_latents_in_order(latent, pages, slot_mapping):
    write_latent(latent, pages, slot_mapping.sort().values)


def attend_latents_scaled(q, pages, plan, *, latent, scale, return_lse=False):
    """By the size of what is compared, which is not that of a head."""
    return attend_latent(q, pages, plan, latent=latent, scale=latent**-0.5, return_lse=return_lse)


def attend_latents_by_the_keys(q, pages, plan, **features):
    """The number of keys in the step shows."""
    out, lse = attend_latent(q, pages, plan, **features)
    return out * _last_bit(int(plan.seq_lens.sum()), out), lse


def silu_by_the_rows(x):
    return silu_mul(x) * _last_bit(len(x), x)


def linear_by_the_rows(weight, bias=None):
    return _ByTheRows(weight, bias)


class _ByTheRows(PlainLinear):
    def __call__(self, x):
        return super().__call__(x) * _last_bit(len(x), x)


def attend_by_the_keys(q, pages, plan, **features):
    """The number of keys in the step shows."""
    out, lse = attend(q, pages, plan, **features)
    return out * _last_bit(int(plan.seq_lens.sum()), out), lse


def _last_bit(count, like):
    """A factor of one, or of hardly more."""
    return 1 + (count % 2) * torch.finfo(like.dtype).eps
