"""A checkpoint directory for the toy model, and a registry that knows it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from openlathe.plugins.assemble import assemble
from openlathe.plugins.discover import Candidate, discover
from openlathe.plugins.registry import Registry
from openlathe.spi import ENTRY_POINT_GROUP

from .config import ToyConfig

#: What the entry point of a distribution would say.
TOY = Candidate(
    name="toy",
    value="openlathe_sdk.reference.toy.plugin",
    group=ENTRY_POINT_GROUP,
    distribution="openlathe-plugin-toy",
    version="0",
    origin="path",
)


def toy_registry() -> Registry:
    """What is installed, and the toy."""
    return assemble(candidates=[*discover(), TOY])


def write_toy(folder: Path, *, vocab_size: int = 64, max_length: int = 1024) -> Path:
    """Configuration, weights and a tokenizer that reads numbers: ``"3 1 4"`` is three tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    config = ToyConfig(vocab_size=vocab_size, max_position_embeddings=max_length)
    described = {
        "architectures": ["ToyForCausalLM"],
        "model_type": "toy",
        "vocab_size": vocab_size,
        "max_position_embeddings": max_length,
        "dtype": config.dtype,
    }
    (folder / "config.json").write_text(json.dumps(described, indent=2))
    table = torch.zeros(vocab_size, config.hidden_size)
    table[:, 0] = torch.arange(vocab_size)
    save_file({"embed_tokens.weight": table}, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer = Tokenizer(models.WordLevel({str(token): token for token in range(vocab_size)}, unk_token="0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
