"""From two engines' logits to how far apart they are."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import repeat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

#: Positions whose distributions are held in float64 at once.
_SLICE = 32
PERCENTILES = (90, 99, 99.9)


@dataclass
class Losses:
    """Measurements at every position so far, in nats.

    Attributes:
        reference, candidate: the negative log-likelihood of the text's next token.
        divergence: KL(reference || candidate) of the next token's distributions; 0 or more, and 0 where they are equal.
        agreed: whether both have the same likeliest token.
    """

    reference: list[float] = field(default_factory=list)
    candidate: list[float] = field(default_factory=list)
    divergence: list[float] = field(default_factory=list)
    agreed: list[bool] = field(default_factory=list)

    def add(self, targets: Tensor, candidate: Tensor, reference: Tensor | None) -> None:
        """Measures ``targets`` [T] int64, foretold by logits [T, V] of both; without a reference its perplexity alone.

        Distributions are compared in float64.
        """
        others = repeat(None) if reference is None else reference.split(_SLICE)
        for tokens, own, other in zip(targets.split(_SLICE), candidate.split(_SLICE), others, strict=False):
            q = own.double().log_softmax(-1)
            self.candidate += (-q.gather(1, tokens[:, None])[:, 0]).tolist()
            if other is not None:
                p = other.double().log_softmax(-1)
                self.reference += (-p.gather(1, tokens[:, None])[:, 0]).tolist()
                self.divergence += (p.exp() * (p - q)).nan_to_num(nan=0.0).sum(-1).clamp(min=0.0).tolist()
                self.agreed += (p.argmax(-1) == q.argmax(-1)).tolist()

    def figures(self) -> dict[str, Any]:
        """Means and percentiles, as the command writes them."""
        found: dict[str, Any] = {"num_tokens": len(self.candidate), "perplexity": perplexity(self.candidate)}
        if self.divergence:
            changes = [own - other for own, other in zip(self.candidate, self.reference, strict=True)]
            ratio = math.exp(mean(changes))
            found |= {
                "reference_perplexity": perplexity(self.reference),
                "perplexity_ratio": ratio,
                "perplexity_ratio_error": ratio * standard_error(changes),
                "kl_divergence": _summary(self.divergence),
                "top1_agreement": mean(self.agreed),
            }
        return found


def perplexity(losses: list[float]) -> float:
    """The exponential of the mean loss, infinite where that is too large for a number."""
    try:
        return math.exp(mean(losses))
    except OverflowError:
        return math.inf


def mean(values: list[Any]) -> float:
    return math.fsum(values) / len(values)


def standard_error(values: list[float]) -> float:
    """Of the mean, positions taken for independent."""
    if len(values) < 2:
        return 0.0
    centre = mean(values)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in values) / (len(values) - 1) / len(values))


def percentile(ordered: list[float], share: float) -> float:
    """Between two neighbours by straight line."""
    place = (len(ordered) - 1) * share / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _summary(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    shares = {f"p{share}": percentile(ordered, share) for share in PERCENTILES}
    return {
        "mean": mean(values),
        "standard_error": standard_error(values),
        "median": percentile(ordered, 50),
        **shares,
        "max": ordered[-1],
    }
