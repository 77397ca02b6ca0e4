"""Tiny Qwen3 checkpoints, written by transformers: one with random weights, one that knows the scripts by heart, and
one that has learnt the language of the tales.

All are complete directories, as ``serve`` wants them: configuration, weights, tokenizer with chat template, generation
defaults. They are made once and kept (:mod:`openlathe_sdk.cache`).
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from tokenizers import Tokenizer

from ..cache import cached, source_hash
from . import random_weights, scripts, tales, tokenizer, training
from .scripts import SCRIPTS, training_scripts

REFERENCE = "Qwen3ForCausalLM"
TEMPLATE_PACKAGE = "openlathe_plugin_qwen3"
TEMPLATE_FILE = "templates/qwen3.jinja"
END_OF_TURN = "<|im_end|>"
PADDING = "<|endoftext|>"
VOCAB_SIZE = 1024
MAX_LENGTH = 4096
#: Tales that are trained on, in how many steps and on windows of how many tokens, and from where on no tale was in it.
TALES = 1000
TALE_STEPS = 200
TALE_LENGTH = 192
HELD_OUT = 1_000_000


class Shape(NamedTuple):
    """What tests vary of a tiny Qwen3."""

    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    tie: bool


def tiny_qwen3(
    path: Path | str | None = None,
    *,
    dtype: str = "float32",
    seed: int = 0,
    tie: bool = False,
    layers: int = 2,
    hidden_size: int = 64,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int = 32,
    max_shard_size: str | int = "5GB",
    legacy_config: bool = False,
) -> Path:
    """A random Qwen3; copied to ``path`` where one is given, else the kept copy itself, which is only to be read.

    A small ``max_shard_size`` (``"100KB"``) gives a sharded checkpoint with an index; ``tie`` one without an output
    head of its own.
    """
    shape = Shape(layers, hidden_size, heads, kv_heads, head_dim, tie)
    options: dict[str, Any] = {
        "dtype": dtype,
        "seed": seed,
        "max_shard_size": max_shard_size,
        "legacy_config": legacy_config,
    }

    def build(folder: Path) -> None:
        config = _qwen3_config(_write_tokenizer(folder), shape)
        random_weights.write_checkpoint(folder, reference=REFERENCE, config=config, **options)
        _write_generation_config(folder, config)

    return _placed(cached("tiny-qwen3", {"shape": shape, **options, **_fingerprint()}, build), path)


def scripted_qwen3(path: Path | str | None = None, *, dtype: str = "float32") -> Path:
    """A Qwen3 of 0.4 million parameters that answers each of :data:`SCRIPTS` greedily and exactly, and stops.

    The first call trains it, which takes some ten seconds.
    """
    shape = Shape(layers=2, hidden_size=128, heads=4, kv_heads=2, head_dim=32, tie=True)

    def build(folder: Path) -> None:
        config = _qwen3_config(_write_tokenizer(folder), shape)
        model = random_weights.random_model(REFERENCE, config)
        training.overfit(model, scripted_examples(folder), confidence=0.99)
        model.to(getattr(torch, dtype)).save_pretrained(folder)
        _write_generation_config(folder, config)

    return _placed(cached("scripted-qwen3", {"shape": shape, "dtype": dtype, **_fingerprint()}, build), path)


def trained_qwen3(path: Path | str | None = None, *, dtype: str = "float32") -> Path:
    """A Qwen3 of 0.4 million parameters that continues tales it has never seen, see :mod:`.tales`: the checkpoint on
    which losses of precision mean something. It is at home in texts of :data:`TALE_LENGTH` tokens.

    Tales from :data:`HELD_OUT` on were not in its training. The first call trains it, which takes some ten seconds.
    """
    shape = Shape(layers=2, hidden_size=128, heads=4, kv_heads=2, head_dim=32, tie=True)

    def build(folder: Path) -> None:
        text = tales.tell(0, TALES)
        vocabulary = _write_tokenizer(folder, [text])
        config = _qwen3_config(vocabulary, shape)
        model = random_weights.random_model(REFERENCE, config)
        training.learn(model, vocabulary.encode(text).ids, steps=TALE_STEPS, batch=8, length=TALE_LENGTH)
        model.to(getattr(torch, dtype)).save_pretrained(folder)
        _write_generation_config(folder, config)

    return _placed(cached("trained-qwen3", {"shape": shape, "dtype": dtype, **_fingerprint()}, build), path)


def scripted_examples(folder: Path) -> list[training.Example]:
    """The scripts as token ids; prompts are rendered by transformers, so that no code of openlathe is in them."""
    reader = transformers.AutoTokenizer.from_pretrained(folder)
    examples = []
    for script in training_scripts():
        prompt = reader.apply_chat_template(
            list(script.messages),
            tools=list(script.tools) or None,
            add_generation_prompt=True,
            tokenize=False,
            **script.template_kwargs,
        )
        completion = script.completion + END_OF_TURN
        examples.append(training.Example(reader.encode(prompt), reader.encode(completion)))
    return examples


def qwen3_template() -> str:
    """The chat template that the qwen3 plugin brings."""
    return (resources.files(TEMPLATE_PACKAGE) / TEMPLATE_FILE).read_text(encoding="utf-8")


def _qwen3_config(vocabulary: Tokenizer, shape: Shape) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary.get_vocab_size(),
        "hidden_size": shape.hidden_size,
        "intermediate_size": 2 * shape.hidden_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": MAX_LENGTH,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0},
        "tie_word_embeddings": shape.tie,
        "bos_token_id": vocabulary.token_to_id(PADDING),
        "eos_token_id": vocabulary.token_to_id(END_OF_TURN),
    }


def _write_tokenizer(folder: Path, more: Sequence[str] = ()) -> Tokenizer:
    """Trained on the template, the scripts and ``more``, so that prompts are short.

    Text outside ASCII is left out: its characters stay several tokens each, as rare ones do in real vocabularies.
    """
    template = qwen3_template()
    texts = [script.completion for script in SCRIPTS.values()]
    texts += [json.dumps([script.messages, script.tools]) for script in SCRIPTS.values()]
    known = [template, *filter(str.isascii, texts), *more]
    vocabulary = tokenizer.train_tokenizer(known, vocab_size=VOCAB_SIZE)
    tokenizer.write_tokenizer(folder, vocabulary, chat_template=template, max_length=MAX_LENGTH)
    return vocabulary


def _write_generation_config(folder: Path, config: dict[str, Any]) -> None:
    """Qwen3's published sampling defaults, and both of its end tokens."""
    end, padding = config["eos_token_id"], config["bos_token_id"]
    defaults = {
        "bos_token_id": padding,
        "do_sample": True,
        "eos_token_id": [end, padding],
        "pad_token_id": padding,
        "temperature": 0.6,
        "top_k": 20,
        "top_p": 0.95,
    }
    (folder / "generation_config.json").write_text(json.dumps(defaults, indent=2))


def _fingerprint() -> dict[str, str]:
    """Everything else that decides what is made: our code, the template, the libraries."""
    code = source_hash(random_weights, scripts, tales, tokenizer, training, sys.modules[__name__])
    libraries = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return {"code": code, "template": qwen3_template(), "libraries": libraries}


def _placed(kept: Path, path: Path | str | None) -> Path:
    if path is None:
        return kept
    shutil.copytree(kept, path, dirs_exist_ok=True)
    return Path(path)
