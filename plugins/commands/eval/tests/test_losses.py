"""Losses from logits, against torch's own and numpy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from openlathe_plugin_eval.losses import PERCENTILES, Losses, perplexity, standard_error
from torch.nn import functional


@pytest.fixture(scope="module")
def measured() -> tuple[Losses, torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(100, 50, generator=generator) * 3
    candidate = reference + torch.randn(100, 50, generator=generator)
    targets = torch.randint(50, (100,), generator=generator)
    losses = Losses()
    losses.add(targets[:70], candidate[:70], reference[:70])
    losses.add(targets[70:], candidate[70:], reference[70:])
    return losses, targets, candidate, reference


def test_divergence_and_loss_are_those_of_torch(measured: tuple) -> None:
    losses, targets, candidate, reference = measured
    p, q = (logits.double().log_softmax(-1) for logits in (reference, candidate))
    wanted = functional.kl_div(q, p, log_target=True, reduction="none").sum(-1)
    assert losses.divergence == pytest.approx(wanted.tolist(), rel=1e-9)
    assert losses.candidate == pytest.approx(
        functional.cross_entropy(candidate, targets, reduction="none").tolist(), 1e-5
    )
    assert losses.reference == pytest.approx(
        functional.cross_entropy(reference, targets, reduction="none").tolist(), 1e-5
    )


def test_figures(measured: tuple) -> None:
    losses, targets, candidate, reference = measured
    figures = losses.figures()
    kl = np.array(losses.divergence)
    assert figures["num_tokens"] == 100
    assert figures["perplexity"] == pytest.approx(functional.cross_entropy(candidate, targets).exp().item())
    assert figures["reference_perplexity"] == pytest.approx(functional.cross_entropy(reference, targets).exp().item())
    assert figures["perplexity_ratio"] == pytest.approx(figures["perplexity"] / figures["reference_perplexity"])
    assert figures["top1_agreement"] == (candidate.argmax(-1) == reference.argmax(-1)).double().mean().item()
    summary = figures["kl_divergence"]
    assert summary["mean"] == pytest.approx(kl.mean())
    assert summary["standard_error"] == pytest.approx(kl.std(ddof=1) / math.sqrt(len(kl)))
    assert summary["median"] == pytest.approx(np.median(kl))
    assert summary["max"] == kl.max()
    for share in PERCENTILES:
        assert summary[f"p{share}"] == pytest.approx(np.percentile(kl, share))


def test_equal_distributions_do_not_diverge() -> None:
    logits = torch.randn(10, 20, generator=torch.Generator().manual_seed(1))
    losses = Losses()
    losses.add(torch.zeros(10, dtype=torch.int64), logits + 5.0, logits)
    assert max(losses.divergence) < 1e-12
    assert all(losses.agreed)


def test_tokens_that_neither_allows_do_not_diverge() -> None:
    logits = torch.tensor([[0.0, 1.0, -math.inf]])
    losses = Losses()
    losses.add(torch.tensor([0]), logits, logits)
    assert losses.divergence == [0.0]


def test_a_perplexity_without_a_reference() -> None:
    losses = Losses()
    losses.add(torch.tensor([1, 2]), torch.zeros(2, 8), None)
    assert losses.figures() == {"num_tokens": 2, "perplexity": pytest.approx(8.0)}


def test_limits() -> None:
    assert perplexity([1e4]) == math.inf
    assert standard_error([1.0]) == 0.0
