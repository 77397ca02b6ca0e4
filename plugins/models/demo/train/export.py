"""Checkpoints as a Qwen3 repository has them: configuration, weights in bfloat16, tokenizer, template, defaults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer

from openlathe_sdk.checkpoints.tokenizer import write_tokenizer

from .model import Qwen3

MAX_LENGTH = 2048
WEIGHTS = "model.safetensors"
#: Key of the weights' header.
TOKENS = "tokens"
END, PADDING = "<|im_end|>", "<|endoftext|>"


def write_checkpoint(folder: Path, model: Qwen3, tokenizer: Tokenizer, chat_template: str, *, tokens: int = 0) -> None:
    """``tokens`` is how many the model has learnt from; it stands in the header of the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().bfloat16().contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt", TOKENS: str(tokens)})
    write_tokenizer(folder, tokenizer, chat_template=chat_template, max_length=MAX_LENGTH)
    _write_json(folder / "config.json", config(model, tokenizer))
    _write_json(folder / "generation_config.json", generation_config(tokenizer))


def config(model: Qwen3, tokenizer: Tokenizer) -> dict[str, Any]:
    shape = model.shape
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "attention_bias": False,
        "max_position_embeddings": MAX_LENGTH,
        "rms_norm_eps": shape.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_theta},
        "tie_word_embeddings": True,
        "bos_token_id": tokenizer.token_to_id(PADDING),
        "eos_token_id": tokenizer.token_to_id(END),
        "dtype": str(torch.bfloat16).removeprefix("torch."),
    }


def generation_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """Greedy: a small model has nothing to gain from chance."""
    end, padding = tokenizer.token_to_id(END), tokenizer.token_to_id(PADDING)
    return {
        "bos_token_id": padding,
        "do_sample": False,
        "eos_token_id": [end, padding],
        "pad_token_id": padding,
        "temperature": 0.0,
    }


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
