"""From conversations to tensors. What a step learns from follows from the seed and the step's number alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import NamedTuple

import torch
from tokenizers import Tokenizer
from torch import Tensor

from .corpus.book import LEARNT
from .corpus.conversation import Conversation, Parts, Renderer, texts
from .corpus.stream import stream
from .corpus.styles import PLAIN, Style

IGNORED = -100


class Sample(NamedTuple):
    """Token ids, and for each the id that follows it where that one is to be learnt, else ``IGNORED``.

    Texts that begin alike are one sample, a tree: the ``trunk`` is what they begin with, ``branches`` are the lengths
    of what then follows in each. A text by itself is nothing but trunk.
    """

    ids: list[int]
    labels: list[int]
    trunk: int
    branches: tuple[int, ...] = ()


class Batch(NamedTuple):
    """Samples, padded on the right.

    Attributes:
        ids: [B, L].
        labels: [B, L].
        branches: [B, L], of which branch each token is, from one on; the trunk is zero.
        positions: [B, L], of each token in its text.
        tokens: those that are no padding.
    """

    ids: Tensor
    labels: Tensor
    branches: Tensor
    positions: Tensor
    tokens: int

    def to(self, device: torch.device) -> Batch:
        tensors = self.ids, self.labels, self.branches, self.positions
        ids, labels, branches, positions = (tensor.to(device, non_blocking=True) for tensor in tensors)
        return Batch(ids, labels, branches, positions, self.tokens)


@dataclass(frozen=True, kw_only=True)
class Feed:
    """Makes the batches of steps.

    Attributes:
        longest: tokens of a text; longer ones are left out.
        together: most tokens of texts that begin alike, as one: attention's cost grows with the square.
        width: most tokens of a batch, padding included; a step has several batches.
        style: the manner of all answers.
    """

    tokenizer: Tokenizer
    renderer: Renderer
    longest: int
    together: int = 448
    width: int = 3072
    style: Style = PLAIN

    def step(self, shares: Mapping[str, float], seed: object, tokens: int) -> list[Batch]:
        """Batches of about ``tokens`` tokens, each of texts of like length."""
        samples, count = [], 0
        for sample in self.samples(stream(shares, seed, LEARNT)):
            samples.append(sample)
            count += len(sample.ids)
            if count >= tokens:
                break
        return list(self._batches(sorted(samples, key=lambda sample: len(sample.ids))))

    def samples(self, groups: Iterable[Sequence[Conversation]]) -> Iterator[Sample]:
        """Those of a group as trees."""
        for group in groups:
            made = [
                self.sample(parts)
                for conversation in group
                for parts in texts(self.style.conversation(conversation), self.renderer)
            ]
            yield from trees([sample for sample in made if len(sample.ids) <= self.longest], self.together)

    def sample(self, parts: Parts) -> Sample:
        ids: list[int] = []
        learnt: list[bool] = []
        for text, is_learnt in parts:
            found = self.tokenizer.encode(text, add_special_tokens=False).ids
            ids += found
            learnt += [is_learnt] * len(found)
        labels = [id if wanted else IGNORED for id, wanted in zip(ids[1:], learnt[1:], strict=True)]
        return Sample(ids[:-1], labels, trunk=len(labels))

    def _batches(self, samples: list[Sample]) -> Iterator[Batch]:
        start = 0
        while start < len(samples):
            end = start + 1
            while end < len(samples) and (end + 1 - start) * len(samples[end].ids) <= self.width:
                end += 1
            yield padded(samples[start:end])
            start = end


def trees(samples: Sequence[Sample], longest: int) -> Iterator[Sample]:
    """``samples`` in as few as ``longest`` tokens of each allow; a sample that is longer stays by itself."""
    found: list[Sample] = []
    for sample in samples:
        together = tree([*found, sample])
        if found and len(together.ids) > longest:
            yield tree(found)
            found = []
        found.append(sample)
    if found:
        yield tree(found)


def tree(samples: Sequence[Sample]) -> Sample:
    """What all begin with once, and behind it the rest of each.

    The last token in common is repeated in each branch, because what follows it is not the same.
    """
    if len(samples) == 1:
        return samples[0]
    alike = takewhile(lambda ids: len(set(ids)) == 1, zip(*(sample.ids for sample in samples), strict=False))
    trunk = max(0, sum(1 for _ in alike) - 1)
    ids, labels = samples[0].ids[:trunk], samples[0].labels[:trunk]
    for sample in samples:
        ids = ids + sample.ids[trunk:]
        labels = labels + sample.labels[trunk:]
    return Sample(ids, labels, trunk, tuple(len(sample.ids) - trunk for sample in samples))


def padded(samples: Sequence[Sample]) -> Batch:
    length = max(len(sample.ids) for sample in samples)
    ids, branches, positions = torch.zeros(3, len(samples), length, dtype=torch.int64)
    labels = torch.full_like(ids, IGNORED)
    for row, sample in enumerate(samples):
        end = len(sample.ids)
        ids[row, :end] = torch.tensor(sample.ids)
        labels[row, :end] = torch.tensor(sample.labels)
        positions[row, : sample.trunk] = torch.arange(sample.trunk)
        start = sample.trunk
        for number, size in enumerate(sample.branches, start=1):
            branches[row, start : start + size] = number
            positions[row, start : start + size] = sample.trunk + torch.arange(size)
            start += size
    return Batch(ids, labels, branches, positions, sum(len(sample.ids) for sample in samples))
