"""Filters and draws: against float64 written out by hand, and against the distribution itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openlathe.engine.messages import SamplingParams
from openlathe.engine.sampling.uniform import uniform
from openlathe.kernels.draw import Filters, draw, filtered
from openlathe.kernels.greedy import greedy

from .reference import probabilities

VOCAB = 40
DRAWS = 20_000
FILTERS = ("top_k", "top_p", "min_p")


def filters(count: int, sampling: SamplingParams) -> Filters:
    return Filters(
        top_k=np.full(count, max(sampling.top_k, 0)),
        top_p=np.full(count, sampling.top_p),
        min_p=np.full(count, sampling.min_p),
    )


def ones(count: int) -> np.ndarray:
    return np.ones(count, np.float32)


def kept(logits: torch.Tensor, sampling: SamplingParams) -> set[int]:
    probs = filtered((logits[None] / sampling.temperature).softmax(-1), filters(1, sampling))
    return set(probs[0].nonzero()[:, 0].tolist())


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    vocab_size=st.sampled_from([VOCAB, 128, 1000]),
    temperature=st.sampled_from([0.3, 1.0, 2.0]),
    top_k=st.integers(0, VOCAB - 1),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5]),
)
def test_filters_keep_what_float64_sorting_keeps(
    seed: int, vocab_size: int, temperature: float, top_k: int, top_p: float, min_p: float
) -> None:
    logits = np.random.default_rng(seed).normal(size=vocab_size).astype(np.float32) * 3
    sampling = SamplingParams(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    wanted = probabilities(logits.astype(np.float64), sampling)
    assert kept(torch.from_numpy(logits), sampling) == set(np.nonzero(wanted)[0].tolist())


def test_a_top_p_wider_than_the_shortlist_is_found_all_the_same() -> None:
    logits = torch.zeros(5000)
    logits[:2] = 1.0
    assert len(kept(logits, SamplingParams(top_p=0.99))) == 5000  # all but two are tied, and ties stay together
    logits = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    wanted = probabilities(logits.double().numpy(), SamplingParams(top_p=0.99))
    assert kept(logits, SamplingParams(top_p=0.99)) == set(np.nonzero(wanted)[0].tolist())


@pytest.mark.parametrize("top_p", [1e-6, 0.1, 0.5, 0.9, 0.999])
def test_both_ways_to_a_top_p_lead_to_the_same_tokens(top_p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short list of the best, and bisection, which is the only way where asking the device would mean to wait."""
    spread = (torch.randn(8, 1000, generator=torch.Generator().manual_seed(1)) * 3).softmax(-1)
    neighbours = torch.arange(0x3A83126F, 0x3A83126F + 1000, dtype=torch.int32).view(torch.float32)[None]
    for probs in (spread, neighbours):
        found = []
        for length in (1, 1000):
            monkeypatch.setattr("openlathe.kernels.draw._SHORTLIST", length)
            found.append(filtered(probs, filters(len(probs), SamplingParams(top_p=top_p))))
        assert torch.equal(*found)


@pytest.mark.parametrize("top_p, count", [(0.5, 1), (0.75, 2), (0.76, 4), (0.875, 4)])
@pytest.mark.parametrize("top_k", [0, 4])
def test_a_top_p_that_is_met_exactly_takes_no_further_token(top_p: float, count: int, top_k: int) -> None:
    probs = torch.tensor([[0.5, 0.25, 0.125, 0.125, 0.0]])
    assert int((filtered(probs, filters(1, SamplingParams(top_p=top_p, top_k=top_k))) > 0).sum()) == count


def test_a_row_is_filtered_as_if_it_were_alone() -> None:
    """Whatever its neighbours ask for, which decides how many candidates are looked at."""
    draw = np.random.default_rng(2)
    logits = torch.randn(40, 500, generator=torch.Generator().manual_seed(2)) * 2
    columns = {
        "top_k": draw.choice([0, 3, 20, 400], 40),
        "top_p": draw.choice([1.0, 0.2, 0.6, 0.95, 0.999], 40),
        "min_p": draw.choice([0.0, 0.001, 0.1], 40),
    }
    together = filtered(logits.softmax(-1), Filters(**columns))
    for row in range(40):
        alone = Filters(**{name: values[row : row + 1] for name, values in columns.items()})
        assert torch.equal(filtered(logits[row : row + 1].softmax(-1), alone)[0], together[row])


# -- draws --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(),
        SamplingParams(temperature=0.5),
        SamplingParams(temperature=2.0),
        SamplingParams(top_k=5),
        SamplingParams(top_p=0.7),
        SamplingParams(min_p=0.1),
        SamplingParams(top_k=20, top_p=0.9),
        SamplingParams(top_k=20, min_p=0.02),
        SamplingParams(top_p=0.9, min_p=0.05),
        SamplingParams(temperature=0.7, top_k=12, top_p=0.95, min_p=0.01),
        SamplingParams(temperature=1.5, top_k=30, top_p=0.8, min_p=0.03),
    ],
    ids=lambda sampling: ",".join(f"{name}={getattr(sampling, name)}" for name in ("temperature", *FILTERS)),
)
@pytest.mark.parametrize("vocab_size", [VOCAB, 300])
def test_draws_follow_the_distribution(sampling: SamplingParams, vocab_size: int) -> None:
    """One seed, 20,000 positions, by the chi-square test: how often each token comes, not only which ones."""
    logits = torch.randn(vocab_size, generator=torch.Generator().manual_seed(3)) * 1.5
    wanted = probabilities(logits.double().numpy(), sampling)
    numbers = uniform(np.full(DRAWS, 4, np.uint64), np.arange(DRAWS))
    temperature = np.full(DRAWS, sampling.temperature, np.float32)
    drawn = draw(logits.expand(DRAWS, -1), temperature, filters(DRAWS, sampling), numbers)
    observed = np.bincount(drawn.numpy(), minlength=vocab_size)
    assert not observed[wanted == 0].any()
    assert chi_square_p(observed, wanted * DRAWS) > 0.001


def test_the_chi_square_test_sees_a_distribution_that_is_slightly_off() -> None:
    wanted = np.full(10, 0.1)
    off = wanted + np.array([0.01, -0.01] * 5)
    observed = np.random.default_rng(5).multinomial(DRAWS, off)
    assert chi_square_p(observed, wanted * DRAWS) < 1e-6


def test_every_number_finds_the_token_that_the_cumulative_sum_says() -> None:
    """Both levels of the search, and their borders."""
    generator = torch.Generator().manual_seed(6)
    weights = torch.rand(700, generator=generator)
    weights[torch.rand(700, generator=generator) < 0.5] = 0
    cumulative = np.cumsum(weights.double().numpy())
    inside = (cumulative - weights.double().numpy() / 2)[weights.numpy() > 0] / cumulative[-1]
    scores = weights.log().expand(len(inside), -1)
    drawn = draw(scores, ones(len(inside)), filters(len(inside), SamplingParams()), inside)
    assert drawn.tolist() == np.nonzero(weights.numpy())[0].tolist()


@pytest.mark.parametrize("number", [0.0, np.nextafter(1.0, 0.0)])
def test_a_token_without_probability_is_never_drawn(number: float) -> None:
    scores = torch.full((1, 400), -torch.inf)
    scores[0, [130, 390]] = 0
    drawn = draw(scores, ones(1), filters(1, SamplingParams()), np.array([number]))
    assert drawn.tolist() == [130 if number == 0 else 390]


def test_not_a_number_still_gives_a_token_of_the_vocabulary() -> None:
    for value in (torch.nan, torch.inf, -torch.inf):
        scores = torch.full((2, VOCAB), value)
        for sampling in (SamplingParams(), SamplingParams(top_p=0.5), SamplingParams(top_k=3, min_p=0.1)):
            drawn = draw(scores, ones(2), filters(2, sampling), np.array([0.1, 0.9]))
            assert ((drawn >= 0) & (drawn < VOCAB)).all()
        assert ((greedy(scores) >= 0) & (greedy(scores) < VOCAB)).all()


def chi_square_p(observed: np.ndarray, expected: np.ndarray) -> float:
    """How likely counts at least this far from the expected ones are; bins of fewer than 5 are put together.

    The tail of the chi-square distribution is a regularised incomplete gamma function.
    """
    rare = expected < 5
    counts = np.append(observed[~rare], observed[rare].sum())
    wanted = np.append(expected[~rare], expected[rare].sum())
    counts, wanted = counts[wanted > 0], wanted[wanted > 0]
    statistic = ((counts - wanted) ** 2 / wanted).sum()
    degrees = torch.tensor((len(wanted) - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(degrees, torch.tensor(statistic / 2, dtype=torch.float64)))
