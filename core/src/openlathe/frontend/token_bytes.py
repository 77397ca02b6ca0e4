"""The bytes that single tokens stand for, where a tokenizer's decoder treats tokens one by one.

Two families cover nearly every generative model. A *byte-level* vocabulary (GPT-2's) spells each byte as one printable
character. A *byte-fallback* vocabulary (SentencePiece's) spells text as it is, with ``▁`` for a space, and lone bytes
as ``<0x0A>``. For both, decoding is concatenating bytes, which is what makes incremental detokenisation exact.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: Codec error handler that marks each undecodable byte by itself, as the byte-fallback decoder does.
EACH_BYTE = "openlathe.each-byte"
_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")

codecs.register_error(EACH_BYTE, lambda error: ("\ufffd" * (error.end - error.start), error.end))  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class ByteDecoder:
    """``read`` turns a token's spelling into bytes; ``errors`` names the codec error handler that fits the family.

    ``strip`` is a character of which up to ``strip_count`` are dropped at the very start of a decoded text.
    """

    read: Callable[[str], bytes]
    errors: str = "replace"
    strip: str = " "
    strip_count: int = 0


def byte_decoder(decoder: Mapping[str, Any] | None) -> ByteDecoder | None:
    """The reading of tokenizer.json's ``decoder`` section, or None where tokens cannot be decoded one by one."""
    steps = _flatten(decoder)
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return ByteDecoder(_byte_level_reader())
    if "ByteFallback" not in kinds or not set(kinds) <= {"Replace", "ByteFallback", "Fuse", "Strip"}:
        return None
    return _byte_fallback(steps, kinds)


def _flatten(decoder: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if decoder is None:
        return []
    if decoder["type"] == "Sequence":
        return [step for inner in decoder["decoders"] for step in _flatten(inner)]
    return [decoder]


def _byte_level_reader() -> Callable[[str], bytes]:
    """GPT-2's alphabet: printable Latin-1 characters stand for themselves, the other bytes follow from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {byte: byte for byte in printable} | {0x100 + i: byte for i, byte in enumerate(others)}

    def read(token: str) -> bytes:
        try:
            return bytes([alphabet[ord(character)] for character in token])
        except KeyError:  # an added token, spelt as it is
            return token.encode()

    return read


def _byte_fallback(steps: list[Mapping[str, Any]], kinds: list[str]) -> ByteDecoder | None:
    replacements: list[tuple[str, str]] = []
    strip, count = " ", 0
    for step in steps:
        if step["type"] == "Replace":
            if "String" not in step["pattern"]:
                return None
            replacements.append((step["pattern"]["String"], step["content"]))
        elif step["type"] == "Strip":
            # Only behind Fuse does Strip see the whole text instead of each token.
            if step["stop"] or count or "Fuse" not in kinds[: kinds.index("Strip")]:
                return None
            strip, count = step["content"], step["start"]

    def read(token: str) -> bytes:
        for old, new in replacements:
            token = token.replace(old, new)
        match = _BYTE_TOKEN.fullmatch(token)
        return bytes([int(match[1], 16)]) if match else token.encode()

    return ByteDecoder(read, EACH_BYTE, strip, count)
