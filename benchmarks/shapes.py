"""Random checkpoints in the shape of real ones: speed does not depend on what weights say."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers

from openlathe_sdk.cache import cached
from openlathe_sdk.checkpoints import tiny_qwen3

QWEN3_0_6B = {
    "vocab_size": 151_936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 40_960,
    "tie_word_embeddings": True,
}


def qwen3_0_6b() -> Path:
    """Qwen3-0.6B with random bf16 weights (596 million parameters, 1.2 GB), made once and kept."""

    def build(folder: Path) -> None:
        torch.manual_seed(0)
        config = transformers.Qwen3Config(**QWEN3_0_6B, dtype="bfloat16")
        with torch.device("cpu"):
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_bytes((tiny_qwen3() / name).read_bytes())
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 0}))

    return cached("bench-qwen3-0.6b", QWEN3_0_6B, build)
