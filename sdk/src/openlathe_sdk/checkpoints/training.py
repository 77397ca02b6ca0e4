"""Training a tiny model: on a few texts until it says them by heart, or on many until it has learnt their language."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

MAX_STEPS = 500
LEARNING_RATE = 4e-3
WARM_UP = 20
BATCH = 5
IGNORED = -100


@dataclass(frozen=True)
class Example:
    """Token ids of a prompt, and of the completion that is to be learnt (its end token included)."""

    prompt: list[int]
    completion: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.completion)


def overfit(model: Any, examples: Sequence[Example], *, confidence: float = 0.95) -> int:
    """Trains in place until every completion token has at least the probability ``confidence``; returns the steps.

    Full-batch Adam: each step sees every example. Raises ``RuntimeError`` where ``MAX_STEPS`` steps are not enough.
    """
    batches = _batches(examples)
    tokens = sum(len(example.completion) for example in examples)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / WARM_UP))
    with _one_thread():
        for step in range(MAX_STEPS):
            optimizer.zero_grad()
            worst = 0.0
            for ids, labels in batches:
                losses = _completion_losses(model, ids, labels)
                (losses.sum() / tokens).backward()
                worst = max(worst, losses.max().item())
            if worst < -math.log(confidence):
                return step
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    raise RuntimeError(f"The scripts were not learnt in {MAX_STEPS} steps; the worst token's loss is {worst:.3f}.")


def learn(model: Any, ids: Sequence[int], *, steps: int, batch: int, length: int, seed: int = 0) -> float:
    """Trains in place on random windows of a text and returns the mean loss of the last tenth of the steps, in nats.

    Adam with a learning rate that falls to nothing by half a cosine, each step on ``batch`` windows of ``length``
    tokens.
    """
    text = torch.tensor(ids)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * step / steps)) / 2
    )
    losses = []
    with _one_thread():
        for _ in range(steps):
            starts = torch.randint(len(text) - length, (batch, 1), generator=generator)
            windows = text[starts + torch.arange(length + 1)]
            optimizer.zero_grad()
            loss = _completion_losses(model, windows, windows).mean()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    last = losses[-max(steps // 10, 1) :]
    return sum(last) / len(last)


def _batches(examples: Sequence[Example]) -> list[tuple[Tensor, Tensor]]:
    """Examples of like length together, so that little of a batch is padding."""
    ordered = sorted(examples, key=len)
    return [_padded(ordered[start : start + BATCH]) for start in range(0, len(ordered), BATCH)]


def _padded(examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """ids [N, L] and labels [N, L]; labels are :data:`IGNORED` on prompts and padding, which lies to the right."""
    ids = torch.zeros(len(examples), max(map(len, examples)), dtype=torch.int64)
    labels = torch.full_like(ids, IGNORED)
    for row, example in enumerate(examples):
        ids[row, : len(example)] = torch.tensor(example.prompt + example.completion)
        labels[row, len(example.prompt) : len(example)] = torch.tensor(example.completion)
    return ids, labels


def _completion_losses(model: Any, ids: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of each completion token; logits are made only where they count."""
    targets = labels[:, 1:]
    counted = targets != IGNORED
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    return functional.cross_entropy(model.lm_head(hidden[counted]), targets[counted], reduction="none")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Two are less than twice as fast, and many times slower while other tests want the cores too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
