"""The training loop: Muon and AdamW, resumable after any checkpoint of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .batches import Batch
from .plot import write_curve
from .recipe import Budget

WARM_UP = 100
SAVE_EVERY = 100
BETAS = (0.9, 0.97)
WEIGHT_DECAY = 0.05
LONGEST_GRADIENT = 1.0
STATE = "state.pt"


class Trainer:
    """Trains the parameters of ``model`` that ask for gradients; ``loss(batch)`` of it sums over labels.

    ``folder`` holds the state from which an interrupted run goes on, the losses and their plot. ``identity`` is
    whatever else decides what is learnt: a state of another one is refused.
    """

    def __init__(self, model: nn.Module, budget: Budget, folder: Path, *, identity: str = "") -> None:
        self.model, self.budget, self.folder = model, budget, folder
        self.identity = f"{budget} {identity}"
        self.device = next(model.parameters()).device
        self.optimizers = optimizers(model)
        self.losses: list[float] = []
        self.tokens = 0
        folder.mkdir(parents=True, exist_ok=True)

    def run(
        self,
        name: str,
        batches: Callable[[int], Sequence[Batch]],
        *,
        until: int | None = None,
        on_save: Callable[[], None] = lambda: None,
    ) -> None:
        """Up to step ``until``, or to the end; ``batches`` gives those of a step."""
        self._resume()
        until = self.budget.steps if until is None else until
        steps = tqdm(range(len(self.losses), until), desc=name, initial=len(self.losses), total=until, unit="step")
        for step in steps:
            self.losses.append(self.step(batches(step), step))
            steps.set_postfix(loss=f"{self.losses[-1]:.3f}")
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == until:
                self._save(name)
                on_save()

    def step(self, batches: Iterable[Batch], step: int) -> float:
        """One update; returns the mean loss of a token."""
        batches = list(batches)
        labelled = sum(int((batch.labels >= 0).sum()) for batch in batches)
        total = torch.zeros((), device=self.device)
        self.tokens += sum(batch.tokens for batch in batches)
        for batch in batches:
            loss = self._loss(batch) / labelled
            loss.backward()
            total += loss.detach()
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        nn.utils.clip_grad_norm_([parameter for group in groups for parameter in group["params"]], LONGEST_GRADIENT)
        for group in groups:
            group["lr"] = self.rate(step)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return total.item()

    def rate(self, step: int) -> float:
        """A linear warm-up, then linearly down to nothing (Defazio et al., 2023, https://arxiv.org/abs/2310.07831)."""
        warm_up = min(WARM_UP, self.budget.steps // 10 + 1)
        if step < warm_up:
            return self.budget.learning_rate * (step + 1) / warm_up
        return self.budget.learning_rate * (self.budget.steps - step) / (self.budget.steps - warm_up)

    def _loss(self, batch: Batch) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=has_bfloat16(self.device)):
            loss: Tensor = self.model.loss(batch.to(self.device))  # type: ignore[operator]
        return loss

    def _save(self, name: str) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "identity": self.identity,
            "losses": self.losses,
            "tokens": self.tokens,
        }
        partial = self.folder / "state.partial"
        torch.save(state, partial)
        partial.replace(self.folder / STATE)
        write_curve(self.folder / "loss.svg", name, self.losses)

    def _resume(self) -> None:
        if not (self.folder / STATE).is_file():
            return
        state = torch.load(self.folder / STATE, weights_only=True, map_location=self.device)
        if state["identity"] != self.identity:
            raise SystemExit(f"{self.folder} holds the state of another recipe; remove it, or give another --work.")
        self.model.load_state_dict(state["model"])
        for optimizer, its_state in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(its_state)
        self.losses, self.tokens = state["losses"], state["tokens"]


def optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between hidden states, AdamW for everything else; adapters have AdamW alone.

    Muon is of Jordan et al., 2024 (https://kellerjordan.github.io/posts/muon); its updates are scaled so that one
    learning rate suits both (Liu et al., 2025, https://arxiv.org/abs/2502.16982).
    """
    learnt = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    between = [parameter for name, parameter in learnt.items() if name.endswith("_proj.weight")]
    others = [parameter for name, parameter in learnt.items() if not name.endswith("_proj.weight")]
    made: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=0.0, betas=BETAS, weight_decay=0.0, fused=True),
    ]
    if between:
        muon = torch.optim.Muon(between, lr=0.0, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw")
        made.append(muon)
    return made


def has_bfloat16(device: torch.device) -> bool:
    """Whether products in bfloat16 are faster there than in float32."""
    return device.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
