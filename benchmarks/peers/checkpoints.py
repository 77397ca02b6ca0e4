"""The checkpoints that every engine runs: random weights in the shape of real models, with a vocabulary of full size.

Prompts are token ids and no text is ever judged, yet a server decodes every token that it streams: so each id stands
for some letters, and the tokenizer is as large to load as a real one.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from benchmarks.shapes import QWEN3_0_6B
from openlathe_sdk.checkpoints.qwen3 import qwen3_template
from openlathe_sdk.checkpoints.tokenizer import ADDED_TOKENS, WORDS, write_tokenizer

from .paths import MODELS, checkpoint

#: 29.4 million parameters, so few that the rest of a server shows.
SMALL = {
    "vocab_size": 8192,
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "max_position_embeddings": 40_960,
    "tie_word_embeddings": True,
}
SHAPES: dict[str, dict[str, Any]] = {"0.6b": dict(QWEN3_0_6B), "29m": SMALL}


def build(model: str) -> Path:
    """The directory of a checkpoint of :data:`SHAPES`, made where it is not there."""
    folder = checkpoint(model)
    if folder.is_dir():
        return folder
    scratch = MODELS / f"{model}.partial"
    scratch.mkdir(parents=True, exist_ok=True)
    shape = SHAPES[model]
    tokenizer = letters_tokenizer(shape["vocab_size"])
    end, padding = (tokenizer.token_to_id(text) for text in ("<|im_end|>", "<|endoftext|>"))
    torch.manual_seed(0)
    config = transformers.Qwen3Config(
        **shape, dtype="bfloat16", eos_token_id=end, bos_token_id=padding, pad_token_id=padding
    )
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(scratch)
    write_tokenizer(scratch, tokenizer, chat_template=qwen3_template(), max_length=shape["max_position_embeddings"])
    (scratch / "generation_config.json").write_text(json.dumps({"eos_token_id": end, "pad_token_id": padding}))
    return scratch.rename(folder)


def letters_tokenizer(size: int) -> Tokenizer:
    """A byte-level BPE in the form of Qwen3's with ``size`` entries, of which every merged one is some letters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = list(itertools.islice(_merges(), size - len(alphabet) - len(ADDED_TOKENS)))
    words = alphabet + [first + second for first, second in merges]
    tokenizer = Tokenizer(models.BPE(vocab={word: index for index, word in enumerate(words)}, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    cut = pre_tokenizers.Split(Regex(WORDS), behavior="isolated")
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, spell])
    tokenizer.decoder = decoders.ByteLevel()
    for text, special in ADDED_TOKENS.items():
        token = AddedToken(text, special=special, normalized=False)
        tokenizer.add_special_tokens([token]) if special else tokenizer.add_tokens([token])
    return tokenizer


def _merges() -> Iterator[tuple[str, str]]:
    """Pairs of letters, pairs behind a space, then pairs of pairs: enough for any vocabulary there is."""
    letters = "etaoinshrdlucmfwypvbgkjqxz"
    pairs = [first + second for first in letters for second in letters]
    yield from itertools.product(letters, letters)
    yield from (("Ġ", pair) for pair in pairs)
    yield from itertools.product(pairs, pairs)
