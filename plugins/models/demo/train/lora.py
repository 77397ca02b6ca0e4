"""Adapters of low rank (Hu et al., 2021, https://arxiv.org/abs/2106.09685), written in PEFT's format."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from .model import Qwen3

WEIGHTS, PREFIX = "adapter_model.safetensors", "base_model.model."
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


class Adapted(nn.Module):
    """A linear layer that stays as it is, and beside it two small ones that learn."""

    def __init__(self, base: nn.Linear, rank: int, alpha: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_A = nn.Linear(base.in_features, rank, bias=False, device=base.weight.device)
        self.lora_B = nn.Linear(rank, base.out_features, bias=False, device=base.weight.device)
        nn.init.zeros_(self.lora_B.weight)
        self.scale = alpha / rank

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scale * self.lora_B(self.lora_A(x))

    def merged(self) -> Tensor:
        """The weight of one layer that does the same."""
        return self.base.weight + self.scale * self.lora_B.weight @ self.lora_A.weight


def adapt(model: Qwen3, *, rank: int, alpha: int) -> None:
    """Freezes the model and puts adapters beside its linear layers."""
    model.requires_grad_(False)
    for parent, name in list(_linear(model)):
        setattr(parent, name, Adapted(getattr(parent, name), rank, alpha))


@torch.no_grad()
def merge(model: Qwen3) -> None:
    """Makes plain layers of adapted ones."""
    for parent, name in list(_linear(model)):
        adapted = getattr(parent, name)
        adapted.base.weight.copy_(adapted.merged())
        setattr(parent, name, adapted.base)


def _linear(model: Qwen3) -> Iterator[tuple[nn.Module, str]]:
    for parent in model.modules():
        if not isinstance(parent, Adapted):
            yield from ((parent, name) for name, _ in parent.named_children() if name in MODULES)


def read_adapter(folder: Path, model: Qwen3) -> None:
    """Into a model that ``adapt`` has prepared."""
    learnt = load_file(folder / WEIGHTS)
    _, unknown = model.load_state_dict({name.removeprefix(PREFIX): learnt[name] for name in learnt}, strict=False)
    assert not unknown, unknown


def write_adapter(folder: Path, model: Qwen3, *, base: str, rank: int, alpha: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        PREFIX + name: tensor.detach().cpu().bfloat16().contiguous()
        for name, tensor in model.state_dict().items()
        if ".lora_" in name
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(MODULES),
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
