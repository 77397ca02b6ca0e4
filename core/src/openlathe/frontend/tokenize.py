"""Text to token ids and back, with what a model's directory says about its special tokens and chat template."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..checkpoint import download
from ..config import EngineConfig
from ..spi.errors import CheckpointError, InvalidRequest
from .token_bytes import byte_decoder
from .tokenizer_files import TokenizerFiles

_FILES = ["*token*", "*.jinja", "config.json", "generation_config.json", "vocab.*", "merges.txt"]
#: Splits text for the tokenizer without being part of it: a noncharacter of Unicode. See :mod:`.guard`.
SEAM = "\ufdd0"
#: Characters from which tokenising takes so long that nothing else should have to wait for it.
LONG_TEXT = 8192


class AddedToken(NamedTuple):
    """An entry of ``added_tokens``; ``special`` decides only whether the token is shown in an answer."""

    text: str
    special: bool


class Tokenizer:
    """A tokenizer and its facts.

    Attributes:
        added_tokens: id -> entry, whatever its ``special`` flag.
        special_ids: ids of the added tokens whose flag is set.
        vocab_size: one more than the highest id.
        special_tokens: ``bos_token``, ``eos_token``, ... as templates know them.
        chat_template: the template's text, several by name, or None.
        byte_decoder: how single tokens become bytes, or None where they can only be decoded together.
    """

    def __init__(self, backend: Any, files: TokenizerFiles | None = None) -> None:
        """``backend`` is a ``tokenizers.Tokenizer`` or something with the few methods of it that are used here."""
        files = files or TokenizerFiles()
        self._backend = backend
        self.added_tokens: Mapping[int, AddedToken] = {
            id: AddedToken(token.content, token.special) for id, token in backend.get_added_tokens_decoder().items()
        }
        self.special_ids = frozenset(id for id, token in self.added_tokens.items() if token.special)
        highest = max(self.added_tokens, default=-1)
        self.vocab_size = max(backend.get_vocab_size(with_added_tokens=True), highest + 1)
        self.special_tokens = files.special_tokens
        self.chat_template = files.chat_template
        state = backend.decoder.__getstate__() if backend.decoder is not None else "null"
        self.byte_decoder = byte_decoder(json.loads(state))
        self._bytes: dict[int, bytes] = {}

    @classmethod
    def load(cls, path: str | Path, config: EngineConfig | None = None) -> Tokenizer:
        """From a directory, or from a hub id with the revision, token and folder that ``config`` says.

        Raises ``CheckpointError`` where there is no usable tokenizer.
        """
        directory = _locate(str(path), config or EngineConfig())
        files = TokenizerFiles.read(directory)
        if (directory / "tokenizer.json").is_file():
            backend = _from_json(directory / "tokenizer.json")
            files.add_missing_tokens(backend)
            files.add_ends(backend)
        else:
            from .transformers_backend import load

            backend = load(directory)
        return cls(backend, files)

    # -- text -> ids ----------------------------------------------------------------------------------------------

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Other threads run while a long text is tokenised. Raises ``InvalidRequest`` for invalid Unicode."""
        if SEAM in text:
            first, *rest = text.split(SEAM)
            ids = self.encode(first, add_special_tokens=add_special_tokens)
            return ids + [id for piece in rest if piece for id in self.encode(piece, add_special_tokens=False)]
        try:
            if len(text) < LONG_TEXT:
                found = self._backend.encode(text, add_special_tokens=add_special_tokens)
            else:  # of the library's methods, those that take several texts let go of the interpreter
                (found,) = self._backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)
            return list(found.ids)
        except (TypeError, UnicodeError):
            raise InvalidRequest(
                "The text contains half a surrogate pair, which is no character; send valid Unicode."
            ) from None

    def encode_pair(self, first: str, second: str) -> tuple[list[int], list[int]]:
        """Two texts as one sequence, as the tokenizer joins them, and the segment each token belongs to."""
        try:
            found = self._backend.encode(first, second)
        except (TypeError, UnicodeError):
            raise InvalidRequest(
                "The text contains half a surrogate pair, which is no character; send valid Unicode."
            ) from None
        return list(found.ids), list(found.type_ids)

    def token_id(self, text: str) -> int | None:
        """The id of the token spelt ``text``, if there is one."""
        id: int | None = self._backend.token_to_id(text)
        return id

    @property
    def eos_token_id(self) -> int | None:
        eos = self.special_tokens.get("eos_token")
        return self.token_id(eos) if isinstance(eos, str) else None

    # -- ids -> text ----------------------------------------------------------------------------------------------

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ``ids``; ids outside the vocabulary yield nothing."""
        known = [id for id in ids if 0 <= id < self.vocab_size]
        text: str = self._backend.decode(known, skip_special_tokens=skip_special_tokens)
        return text

    def token_bytes(self, id: int) -> bytes:
        """What one token stands for; with a decoder that needs its neighbours, the token decoded alone."""
        found = self._bytes.get(id)
        if found is None:
            if not 0 <= id < self.vocab_size:
                return b""
            found = self._bytes[id] = self._read_bytes(id)
        return found

    def token_text(self, id: int) -> str:
        """One token as text; bytes that are no whole character show as U+FFFD."""
        return self.token_bytes(id).decode(errors="replace")

    def join_bytes(self, ids: Iterable[int]) -> bytes:
        """The bytes of several tokens."""
        known, read = self._bytes, self.token_bytes
        return b"".join([known[id] if id in known else read(id) for id in ids])

    def _read_bytes(self, id: int) -> bytes:
        if self.byte_decoder is None:
            return self.decode([id], skip_special_tokens=False).encode()
        token = self._backend.id_to_token(id)
        if token is None:
            return b""
        found = self.byte_decoder.read(token)
        # A byte-level alphabet knows "é" as a byte, but an added token is spelt in characters.
        return token.encode() if id in self.added_tokens and not _is_text(found) else found


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _from_json(path: Path) -> Any:
    from tokenizers import Tokenizer as Backend

    try:
        backend = Backend.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise CheckpointError(f"{path} cannot be read as a tokenizer: {error}.") from error
    # A file may have been saved with the truncation and padding of training.
    backend.no_truncation()
    backend.no_padding()
    return backend


def _locate(path: str, config: EngineConfig) -> Path:
    if Path(path).is_dir():
        return Path(path)
    if path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise CheckpointError(f"The tokenizer directory {path} does not exist; give a directory or a hub id.")
    return download(path, config, _FILES)
