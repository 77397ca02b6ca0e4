"""Texts as pieces that fit a context."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path

from openlathe.api import Tokenizer
from openlathe.spi import ConfigError

BUNDLED = ("prose.txt", "dialogue.txt", "code.txt", "facts.txt")
#: A window with fewer tokens foretells nothing.
_LEAST = 2


def texts(paths: Sequence[Path]) -> dict[str, str]:
    """Name -> text of each file, or of those that come with the package; raises ``ConfigError``."""
    if not paths:
        folder = resources.files(__package__) / "texts"
        return {name: (folder / name).read_text(encoding="utf-8") for name in BUNDLED}
    found = {}
    for path in paths:
        try:
            found[str(path)] = path.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}.") from None
    return found


def windows(texts: Sequence[str], tokenizer: Tokenizer, length: int) -> Iterator[list[int]]:
    """Each text's tokens in pieces of at most ``length``, each behind the special tokens that a text begins with."""
    opening = tokenizer.encode("")
    room = length - len(opening)
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False)
        for start in range(0, len(ids), room):
            window = opening + ids[start : start + room]
            if len(window) >= _LEAST:
                yield window
