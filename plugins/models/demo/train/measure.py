"""``python -m plugins.models.demo.train.measure``: how many tokens a second shapes learn from, on this machine."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch

from .loop import Trainer
from .model import Qwen3, Shape
from .recipe import FILE, Recipe
from .stages import WORK, Run, device

#: hidden size, intermediate size, layers, heads, key heads, head size.
SHAPES = (
    (256, 768, 6, 4, 2, 64),
    (256, 768, 4, 4, 2, 64),
    (256, 768, 5, 4, 2, 64),
    (192, 576, 6, 4, 2, 64),
    (96, 256, 2, 3, 1, 32),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="measure", description="Tokens a second of shapes, in training.")
    parser.add_argument("--seconds", type=float, default=5, help="for each shape")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    run = Run(Recipe.read(FILE), WORK, Path(), device(arguments.device))
    tokenizer = run.tokenizer()
    feed, vocabulary = run.feed(tokenizer), tokenizer.get_vocab_size()
    _, budget = run.recipe.models[run.recipe.base]
    batches = feed.step(run.recipe.shares_at(0.7), "measure", budget.tokens_per_step)
    tokens = sum(batch.tokens for batch in batches)
    learnt = sum(int((batch.labels >= 0).sum()) for batch in batches)
    sys.stdout.write(f"a step: {tokens:,} tokens in {len(batches)} batches, {learnt:,} of them learnt\n")
    names = ("hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads", "head_dim")
    for numbers in SHAPES:
        model = Qwen3(Shape(**dict(zip(names, numbers, strict=True))), vocabulary).to(run.device)
        trainer = Trainer(model, budget, run.work / "measure")
        trainer.step(batches[:1], 0)
        steps, cpu, wall = 0, time.process_time(), time.perf_counter()
        while time.process_time() - cpu < arguments.seconds:
            trainer.step(batches, 0)
            steps += 1
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        size = sum(parameter.numel() for parameter in model.parameters())
        rates = f"{steps * tokens / wall:8,.0f} tokens/s {steps * tokens / cpu:8,.0f} tokens/cpu-s"
        sys.stdout.write(f"{numbers!s:32} {size / 1e6:5.2f}M {rates}\n")


if __name__ == "__main__":
    main()
