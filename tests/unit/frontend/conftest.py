"""Three small tokenizers of the families that matter, built here so that every id of theirs can be tried."""

from __future__ import annotations

import pytest
from tokenizers import AddedToken, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from openlathe.frontend.tokenize import Tokenizer


@pytest.fixture(scope="session")
def byte_level_backend() -> Backend:
    """As GPT-2's, Qwen's and Llama 3's: bytes spelt as printable characters."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(["hello world, über 中文字 🙂 and 🙃"] * 5, trainer)
    backend.add_special_tokens([AddedToken("<|im_start|>", special=True), AddedToken("<|im_end|>", special=True)])
    backend.add_tokens([AddedToken("<think>"), AddedToken("</think>"), AddedToken("<｜tool▁calls｜>")])
    return backend


@pytest.fixture(scope="session")
def byte_fallback_backend() -> Backend:
    """As Llama 2's and Gemma's: text with ``▁`` for a space, and bytes for characters it lacks."""
    vocabulary = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary += ["▁", "▁a", "b", "▁▁", "中", "é", "\n"]
    backend = Backend(
        models.BPE(vocab={token: id for id, token in enumerate(vocabulary)}, merges=[("▁", "▁")], byte_fallback=True)
    )
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    backend.add_tokens([AddedToken("[INST]")])
    return backend


@pytest.fixture(scope="session")
def word_piece_backend() -> Backend:
    """A decoder that looks at neighbours, so that single tokens stand for nothing by themselves."""
    words = ["[UNK]", "[CLS]", "hello", "wor", "##ld", "##s", "new"]
    backend = Backend(models.WordPiece({word: id for id, word in enumerate(words)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.WordPiece(cleanup=False)
    backend.add_special_tokens([AddedToken("[CLS]", special=True)])
    return backend


@pytest.fixture(scope="session")
def byte_level(byte_level_backend: Backend) -> Tokenizer:
    return Tokenizer(byte_level_backend)


@pytest.fixture(scope="session")
def byte_fallback(byte_fallback_backend: Backend) -> Tokenizer:
    return Tokenizer(byte_fallback_backend)


@pytest.fixture(scope="session")
def word_piece(word_piece_backend: Backend) -> Tokenizer:
    return Tokenizer(word_piece_backend)
