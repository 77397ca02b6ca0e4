"""Log-probabilities of prompts in slices, and searches over blocks of the vocabulary."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from openlathe.engine.messages import SamplingParams
from openlathe.engine.sampling.logprobs import prompt_logprobs
from openlathe.kernels.blocks import largest

from .reference import Rows, request

VOCAB = 1500


@pytest.mark.parametrize("count", [0, 1, 5, 2000, -1])
@pytest.mark.parametrize("length", [1, 64, 150])
def test_a_prompts_log_probabilities(count: int, length: int) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(length, 16, generator=generator)
    head = torch.randn(VOCAB, 16, generator=generator)
    targets = torch.randint(0, VOCAB, (length,), generator=generator)
    slices = []

    def compute_logits(states: torch.Tensor) -> torch.Tensor:
        slices.append(len(states))
        return states @ head.T

    entries = prompt_logprobs(hidden, targets, count, compute_logits).collect()
    assert max(slices) <= 64
    assert len(entries) == length
    wanted = (hidden @ head.T).double().log_softmax(-1)
    shown = VOCAB if count in (-1, 2000) else count
    for entry, target, row in zip(entries, targets.tolist(), wanted, strict=True):
        assert entry.token_ids[0] == target
        assert entry.rank == int((row > row[target]).sum()) + 1
        np.testing.assert_allclose(entry.logprobs, row[entry.token_ids], atol=1e-5)
        np.testing.assert_allclose(entry.logprobs[1:], row.topk(shown).values, atol=1e-5)


def test_each_row_gets_as_many_as_it_asked_for_and_as_if_alone() -> None:
    """Equal logits, where the order of the best is anybody's guess, but always the same."""
    logits = torch.zeros(4, VOCAB)
    counts = [None, 3, 0, 7]
    together = Rows(4, VOCAB)
    for row, count in enumerate(counts):
        together.join(row, request(SamplingParams(logprobs=count)))
    found = together.sample(logits, range(4)).collect()[1]
    assert sorted(found) == [1, 2, 3]
    for row, count in enumerate(counts):
        if count is not None:
            alone = Rows(1, VOCAB)
            alone.join(0, request(SamplingParams(logprobs=count)))
            assert alone.sample(logits[:1], [0]).collect()[1][0] == found[row]
            assert len(found[row].token_ids) == count + 1


@pytest.mark.parametrize("vocab_size", [10, 128, 1000, 5000])
@pytest.mark.parametrize("count", [1, 3, 10])
def test_the_largest_are_the_largest(vocab_size: int, count: int) -> None:
    values = torch.randint(-50, 50, (6, vocab_size), generator=torch.Generator().manual_seed(1)).float()
    found, ids = largest(values, count)
    assert torch.equal(found, values.topk(count).values)
    assert torch.equal(values.gather(1, ids), found)
    assert all(len(set(row)) == count for row in ids.tolist())


def test_the_largest_of_nothing_stay_inside_the_vocabulary() -> None:
    values = torch.full((1, 1001), -torch.inf)
    assert int(largest(values, 1)[1]) <= 1000
