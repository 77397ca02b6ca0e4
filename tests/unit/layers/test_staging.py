"""Memory for weights on their way: used again as soon as nobody holds it, and never before."""

from __future__ import annotations

import torch

from openlathe.layers.staging import Staging


def test_memory_that_nobody_holds_is_used_again() -> None:
    staging = Staging()
    first = staging.empty((100, 64), torch.float32)
    address = first.data_ptr()
    del first
    assert staging.empty((64, 50), torch.bfloat16).data_ptr() == address


def test_memory_in_use_stays_as_it_is() -> None:
    staging = Staging()
    first = staging.empty((100, 64), torch.float32).fill_(1)
    view = first[10:]
    del first
    second = staging.empty((100, 64), torch.float32).fill_(2)
    assert (view == 1).all()
    assert (second == 2).all()


def test_more_is_taken_where_more_is_needed() -> None:
    staging = Staging()
    staging.empty((2, 3), torch.float32)
    larger = staging.empty((2000, 3), torch.float32).zero_()
    assert larger.shape == (2000, 3)
    assert staging.empty((0, 3), torch.float32).shape == (0, 3)
