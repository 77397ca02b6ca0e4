"""A small byte-level BPE with Qwen3's added tokens, cut so that copying is easy.

What has to be copied out of a sentence into JSON must be the same tokens in both. Qwen3 joins a word to the space in
front of it, so that ``Paris`` behind a space and behind a quotation mark are two tokens that look nothing alike to a
small model. Here only words of the prose are joined to their space, from a fixed list; names, values and digits never
are.

And it must be tokens that are met often. A large vocabulary has the words of the corpus whole, and what words it has
not are cut into are the leftovers, which the corpus hardly ever has; so there are few entries, and all words that
may be copied are cut into the same short pieces.

Words of the prose, the sentences by which the template introduces tools and the skeleton of a schema are entries of
their own, which no merges lead to and which therefore cost one entry each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from openlathe_sdk.checkpoints.tokenizer import ADDED_TOKENS

from .corpus.conversation import Renderer

SPACED = Path(__file__).with_name("words") / "spaced.txt"
#: What every schema and every call has around its names.
SKELETON = (
    '{"type": "function", "function": {"name": "',
    '", "description": "',
    '", "parameters": {"type": "object", "properties": {"',
    '": {"type": "',
    '"}}, "required": ["',
    '{"name": "',
    '", "arguments": {"',
)
WORDS = (
    r"\p{N}",
    r"\p{Lu}+(?!\p{Ll})",
    r"\p{Lu}?\p{Ll}+",
    r"\p{L}+",
    r" ?[^\s\p{L}\p{N}]+(?: [^\s\p{L}\p{N}]+)*[\r\n]*",
    r"\s*[\r\n]+",
    r" ",
    r"\s+",
)


def train(texts: Iterable[str], renderer: Renderer, *, size: int) -> Tokenizer:
    """``size`` entries, added tokens included; the same texts give the same tokenizer."""
    whole = whole_pieces(renderer)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("|".join([*whole.values(), *WORDS])), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(ADDED_TOKENS) - len(whole),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    known = re.compile("|".join([*map(re.escape, ADDED_TOKENS), *whole.values()]))
    tokenizer.train_from_iterator((part for text in texts for part in known.split(text) if part), trainer)
    tokenizer.model = with_whole(json.loads(tokenizer.to_str())["model"], whole)
    for text, special in ADDED_TOKENS.items():
        token = AddedToken(text, special=special, normalized=False)
        tokenizer.add_special_tokens([token]) if special else tokenizer.add_tokens([token])
    return tokenizer


def with_whole(learnt: Mapping[str, Any], whole: Iterable[str]) -> models.BPE:
    """A model with further entries that no merges lead to: a piece of text that is one is taken as it stands."""
    entries = dict(learnt["vocab"])
    for text in whole:
        ((entry, _),) = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
        entries.setdefault(entry, len(entries))
    return models.BPE(entries, [tuple(pair) for pair in learnt["merges"]], ignore_merges=True)


def whole_pieces(renderer: Renderer) -> dict[str, str]:
    """Pieces of text that are one token each, and the patterns that find them, in the order in which they are tried."""
    phrases = sorted((*introductions(renderer), *SKELETON), key=len, reverse=True)
    spaced = sorted(SPACED.read_text(encoding="utf-8").split(), key=len, reverse=True)
    return {
        **{phrase: re.escape(phrase) for phrase in phrases},
        **{f" {word}": rf" {word}(?!\w)" for word in spaced},
    }


def introductions(renderer: Renderer) -> list[str]:
    """What the template says around the schemas of tools, cut at added tokens."""
    prompt = renderer.render([{"role": "user", "content": "\n"}], tools=[{}])
    system = prompt.partition("<|im_start|>system\n")[2].partition("<|im_end|>")[0]
    added = "|".join(map(re.escape, ADDED_TOKENS))
    return [part for half in system.split("{}\n") for part in re.split(added, half) if len(part) > 8]
