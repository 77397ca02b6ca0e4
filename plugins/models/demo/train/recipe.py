"""The recipe as typed data."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .model import Shape

FILE = Path(__file__).with_name("recipe.toml")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long something is trained: steps, tokens in each, and the highest learning rate."""

    steps: int
    tokens_per_step: int
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class Adapters:
    names: tuple[str, ...]
    rank: int
    alpha: int
    budget: Budget
    shares: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """``shares``: of each skill, at the beginning and from ``settled`` of the steps on."""

    seed: int
    vocabulary: int
    tokenizer_conversations: int
    longest: int
    settled: float
    shares: Mapping[str, tuple[float, float]]
    models: Mapping[str, tuple[Shape, Budget]]
    adapters: Adapters

    @classmethod
    def read(cls, file: Path = FILE) -> Recipe:
        recipe = tomllib.loads(file.read_text(encoding="utf-8"))
        adapters = recipe["adapters"]
        return cls(
            seed=recipe["seed"],
            vocabulary=recipe["tokenizer"]["size"],
            tokenizer_conversations=recipe["tokenizer"]["conversations"],
            longest=recipe["corpus"]["longest"],
            settled=recipe["corpus"]["settled"],
            shares={skill: (first, last) for skill, (first, last) in recipe["corpus"]["shares"].items()},
            models={name: (Shape(**model["shape"]), _budget(model)) for name, model in recipe["models"].items()},
            adapters=Adapters(
                names=tuple(adapters["names"]),
                rank=adapters["rank"],
                alpha=adapters["alpha"],
                budget=_budget(adapters),
                shares=adapters["shares"],
            ),
        )

    @property
    def base(self) -> str:
        """The model that adapters are made for."""
        return next(iter(self.models))

    def identity(self, name: str) -> str:
        """What decides, beside its budget and the books, what a model of this name learns."""
        words = (self.vocabulary, self.tokenizer_conversations)
        return repr((self.seed, words, self.longest, self.settled, self.shares, self.models[name]))

    def shares_at(self, progress: float) -> dict[str, float]:
        moved = min(1.0, progress / self.settled)
        return {skill: first + (last - first) * moved for skill, (first, last) in self.shares.items()}


def _budget(entry: Mapping[str, Any]) -> Budget:
    return Budget(**{name: entry[name] for name in ("steps", "tokens_per_step", "learning_rate")})
