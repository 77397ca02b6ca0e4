"""Token ids to text, piece by piece: never a broken character, and never a look at the history."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from ..spi.events import Piece, Special, Text
from .tokenize import Tokenizer

#: Prompt tokens that can matter to what follows: a character has at most four bytes.
_CONTEXT = 4
#: Tokens that may be held back because their text ends in U+FFFD, where bytes are out of reach.
_MOST_HELD = 4
#: Tokens without any text after which the window moves on all the same.
_MOST_SILENT = 16


class Detokenizer:
    """Incremental decoding of one sequence.

    What it emits, joined, is ``tokenizer.decode(ids, skip_special_tokens=...)`` behind the prompt, however the ids are
    cut into calls. Every added token comes as :class:`Special`; with ``skip_special_tokens`` those with the flag set
    are not part of that text, so they do not part a character either. Ids outside the vocabulary yield nothing.

    One difference from a whole decode is deliberate: in a run of byte-fallback tokens that is not valid UTF-8, the
    library replaces the valid characters too; here they have been sent by then and stay.

    The work per token does not depend on what came before: concatenated bytes and one incremental UTF-8 decoder, or,
    for decoders that need a token's neighbours, two decodes of the last few tokens per call.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        prompt_ids: Sequence[int] = (),
        *,
        skip_special_tokens: bool = True,
        spaces_between: bool = True,
    ) -> None:
        """Without ``spaces_between``, added tokens that follow each other are joined, whatever the decoder does."""
        self._added, self._added_ids = tokenizer.added_tokens, tokenizer.added_tokens.keys()
        self._spelling = tokenizer.token_text
        self._hidden = tokenizer.special_ids if skip_special_tokens else frozenset()
        self._spaces_between = spaces_between
        self._after_added = False
        context = [id for id in prompt_ids[-_CONTEXT:] if id not in self._hidden]
        text = _Bytes(tokenizer) if tokenizer.byte_decoder is not None else _Window(tokenizer)
        self._text: _Bytes | _Window = text
        text.prime(context)

    def feed(self, ids: Sequence[int]) -> list[Piece]:
        """The pieces that ``ids`` complete; ordinary tokens in a row become one :class:`Text`."""
        added = self._added
        pieces: list[Piece] = []
        if self._added_ids.isdisjoint(ids):  # as nearly always
            self._append(pieces, ids)
            return pieces
        start = 0
        for position, id in enumerate(ids):
            if id not in added:
                continue
            self._append(pieces, ids[start:position])
            self._append_added(pieces, id)
            start = position + 1
        self._append(pieces, ids[start:] if start else ids)
        return pieces

    def finish(self) -> list[Piece]:
        """What was held back; bytes that make no character become U+FFFD."""
        text = self._text.flush()
        return [Text(text)] if text else []

    def _append(self, pieces: list[Piece], ids: Sequence[int]) -> None:
        if not ids:
            return
        self._after_added = False
        if text := self._text.feed(ids):
            pieces.append(Text(text))

    def _append_added(self, pieces: list[Piece], id: int) -> None:
        spelling = self._spelling(id)
        if id not in self._hidden:
            text, space = self._text.flush(), self._text.lead_in(id, spelling)
            if text := text + (space if self._spaces_between or not self._after_added else ""):
                pieces.append(Text(text))
            self._after_added = True
        pieces.append(Special(id, spelling))


class _Bytes:
    """For vocabularies whose tokens stand for bytes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        decoder = tokenizer.byte_decoder
        assert decoder is not None
        self._join = tokenizer.join_bytes
        self._errors = decoder.errors
        self._unread = b""  # the beginning of a character
        self._strip, self._strip_left = decoder.strip, decoder.strip_count

    def prime(self, context: Sequence[int]) -> None:
        """Takes in what came before; bytes of an unfinished character stay."""
        self.feed(context)
        if context:
            self._strip_left = 0

    def lead_in(self, id: int, spelling: str) -> str:
        """Takes in an added token; the text, if any, by which the decoder sets it apart."""
        self._strip_left = 0
        return ""

    def feed(self, ids: Sequence[int]) -> str:
        data = self._unread + self._join(ids)
        text, read = codecs.utf_8_decode(data, self._errors)
        self._unread = data[read:]
        return self._stripped(text) if self._strip_left else text

    def flush(self) -> str:
        text, _ = codecs.utf_8_decode(self._unread, self._errors, True)
        self._unread = b""
        return text

    def _stripped(self, text: str) -> str:
        while self._strip_left and text.startswith(self._strip):
            text = text[len(self._strip) :]
            self._strip_left -= 1
        if text:
            self._strip_left = 0
        return text


class _Window:
    """For every other decoder: a window of recent tokens is decoded with and without its new ones.

    The tokens last emitted stay in the window as context, because a decoder may look at its neighbours.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._decode = tokenizer.decode
        self._ids: list[int] = []
        self._read = 0
        self._prefix = ""

    def prime(self, context: Sequence[int]) -> None:
        self._restart(context)

    def lead_in(self, id: int, spelling: str) -> str:
        """Takes in an added token; the text, if any, by which the decoder sets it apart."""
        text = self._decode([*self._ids, id], skip_special_tokens=False)[len(self._prefix) :]
        self._restart([id])
        return text.removesuffix(spelling)

    def feed(self, ids: Sequence[int]) -> str:
        self._ids.extend(ids)
        text = self._decode(self._ids, skip_special_tokens=False)
        if text.endswith("\ufffd") and len(self._ids) - self._read < _MOST_HELD:
            return ""
        return self._emit(text)

    def flush(self) -> str:
        if self._read == len(self._ids):
            return ""
        return self._emit(self._decode(self._ids, skip_special_tokens=False))

    def _emit(self, text: str) -> str:
        new = text[len(self._prefix) :]
        if new or len(self._ids) - self._read >= _MOST_SILENT:
            self._restart(self._ids[self._read :])
        return new

    def _restart(self, ids: Sequence[int]) -> None:
        self._ids = list(ids)
        self._read = len(self._ids)
        self._prefix = self._decode(self._ids, skip_special_tokens=False) if self._ids else ""
