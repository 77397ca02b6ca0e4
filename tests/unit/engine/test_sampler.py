"""Sampling against float64 arithmetic written out in numpy, and against the distribution itself."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openlathe.engine.sampler import SamplingBatch, _filtered_probs, sample, uniform

VOCAB = 40


def batch_of(rows: int, **columns: object) -> SamplingBatch:
    values: dict[str, object] = {
        "temperature": np.ones(rows, np.float32),
        "top_p": np.ones(rows, np.float32),
        "min_p": np.zeros(rows, np.float32),
        "top_k": np.zeros(rows, np.int64),
        "seed": np.arange(rows, dtype=np.uint64),
        "positions": np.arange(rows, dtype=np.int64),
        "logprobs": np.full(rows, -1, np.int64),
        "masked_ids": [],
    }
    return SamplingBatch(**(values | columns))  # type: ignore[arg-type]


def kept_tokens(logits: np.ndarray, temperature: float, top_k: int, top_p: float, min_p: float) -> set[int]:
    """What may be drawn, in float64 and by sorting: min-p, then top-k, then top-p of what is left, ties together."""
    scaled = logits.astype(np.float64) / temperature
    probs = np.exp(scaled - scaled.max())
    probs /= probs.sum()
    kept = probs >= min_p * probs.max()
    probs = np.where(kept, probs, 0)
    if top_k:
        probs = np.where(probs >= np.sort(probs)[::-1][top_k - 1], probs, 0)
    order = np.sort(probs)[::-1]
    if top_p < 1:
        cumulative = np.cumsum(order)
        # top-k's own ties do not count towards the mass that top-p is a share of
        mass = cumulative[top_k - 1] if top_k else cumulative[-1]
        last = min(int(np.searchsorted(cumulative, top_p * mass)), len(order) - 1)
        probs = np.where(probs >= order[last], probs, 0)
    return set(np.nonzero(probs)[0].tolist())


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_k=st.integers(0, VOCAB - 1),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5]),
)
def test_filters_keep_what_float64_sorting_keeps(
    seed: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    logits = np.random.default_rng(seed).normal(size=VOCAB).astype(np.float32) * 3
    batch = batch_of(
        1,
        temperature=np.array([temperature], np.float32),
        top_k=np.array([top_k]),
        top_p=np.array([top_p], np.float32),
        min_p=np.array([min_p], np.float32),
    )
    probs = _filtered_probs(torch.from_numpy(logits)[None], batch, np.array([0]))
    assert set(probs[0].nonzero()[:, 0].tolist()) == kept_tokens(logits, temperature, top_k, top_p, min_p)


def test_a_top_p_wider_than_the_shortlist_sorts_the_whole_vocabulary() -> None:
    logits = torch.zeros(1, 5000)
    logits[0, :2] = 1.0
    probs = _filtered_probs(logits, batch_of(1, top_p=np.array([0.99], np.float32)), np.array([0]))
    assert int((probs > 0).sum()) == 5000  # all but two are tied, and ties stay together


def test_draws_follow_the_distribution() -> None:
    weights = np.array([0.5, 0.25, 0.125, 0.125, 0.0])
    count = 20_000
    with np.errstate(divide="ignore"):
        logits = torch.from_numpy(np.log(weights)).float().expand(count, -1)
    tokens, _ = sample(logits, batch_of(count))
    observed = np.bincount(tokens, minlength=5) / count
    # Five standard deviations of a binomial share.
    assert np.all(np.abs(observed - weights) <= 5 * np.sqrt(weights * (1 - weights) / count))


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(6)), st.integers(0, 1000))
def test_a_draw_depends_on_seed_and_position_alone(order: list[int], start: int) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(6, VOCAB, generator=generator)
    seeds, positions = np.arange(6, dtype=np.uint64), np.arange(start, start + 6)
    whole, _ = sample(logits, batch_of(6, seed=seeds, positions=positions))
    picked = np.array(order)
    again, _ = sample(logits[order], batch_of(6, seed=seeds[picked], positions=positions[picked]))
    assert again == [whole[index] for index in order]
    one, _ = sample(logits[order[:1]], batch_of(1, seed=seeds[picked[:1]], positions=positions[picked[:1]]))
    assert one == again[:1]


def test_uniform_numbers_are_even_and_unlike_for_neighbours() -> None:
    seeds = np.repeat(np.arange(200, dtype=np.uint64), 200)
    positions = np.tile(np.arange(200), 200)
    draws = uniform(seeds, positions)
    assert ((draws >= 0) & (draws < 1)).all()
    assert len(np.unique(draws)) == len(draws)
    histogram = np.bincount((draws * 20).astype(int), minlength=20)
    assert abs(histogram - len(draws) / 20).max() < 6 * np.sqrt(len(draws) / 20)
    grid = draws.reshape(200, 200)
    assert abs(np.corrcoef(grid[:, 0], grid[:, 1])[0, 1]) < 0.3


def test_temperature_zero_is_greedy_beside_rows_that_draw() -> None:
    logits = torch.randn(4, VOCAB, generator=torch.Generator().manual_seed(2))
    temperature = np.array([0, 1, 0, 1], np.float32)
    tokens, _ = sample(logits, batch_of(4, temperature=temperature))
    assert [tokens[0], tokens[2]] == logits.argmax(-1)[[0, 2]].tolist()


def test_not_a_number_still_gives_a_token_of_the_vocabulary() -> None:
    tokens, _ = sample(torch.full((2, VOCAB), torch.nan), batch_of(2, temperature=np.array([0, 1], np.float32)))
    assert all(0 <= token < VOCAB for token in tokens)


def test_masked_tokens_are_never_chosen_and_logprobs_stay_those_of_the_model() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0]])
    batch = batch_of(1, temperature=np.zeros(1, np.float32), logprobs=np.array([2]), masked_ids=[(0, [0])])
    tokens, logprobs = sample(logits, batch)
    assert tokens == [1]
    expected = logits.double().log_softmax(-1)[0]
    assert logprobs[0].token_ids == [1, 0, 1]
    assert logprobs[0].rank == 2
    np.testing.assert_allclose(logprobs[0].logprobs, expected[[1, 0, 1]].numpy(), atol=1e-6)
    assert logits[0, 0] == 3.0


def test_logprobs_come_only_for_rows_that_asked_and_as_many_as_they_asked() -> None:
    logits = torch.randn(3, VOCAB, generator=torch.Generator().manual_seed(3))
    _, logprobs = sample(logits, batch_of(3, logprobs=np.array([0, -1, VOCAB])))
    assert sorted(logprobs) == [0, 2]
    assert len(logprobs[0].token_ids) == 1
    assert len(logprobs[2].token_ids) == VOCAB + 1
    assert np.isclose(np.exp(logprobs[2].logprobs[1:]).sum(), 1, atol=1e-5)
