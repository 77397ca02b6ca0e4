"""Reasoning written as one tagged section at the beginning of an answer."""

from __future__ import annotations

from dataclasses import dataclass

from openlathe.parsing import MarkerScanner, StreamMachine, compile_markers
from openlathe.spi import ParserContext, Reasoning, Special, Text


@dataclass(frozen=True, kw_only=True)
class SectionFormat:
    """The description of a reasoning format: calling it with a context makes the parser of one stream.

    Attributes:
        open, close: the markers around the reasoning. The opening one may stand at the end of the prompt instead.
        starts_open: the answer begins inside the section even where the prompt does not show it.
        trim: characters that belong to a marker they stand next to, on either side of it.
    """

    open: str
    close: str
    starts_open: bool = False
    trim: str = "\n"

    def __call__(self, context: ParserContext) -> SectionParser:
        return SectionParser(self, context)


class SectionParser(StreamMachine):
    """Reads the section; everything behind it, or everything where the answer does not begin with it, is handed on.

    The end of the prompt decides how the answer begins: inside the section that the prompt has opened, behind the one
    it has closed (there is no reasoning), or before it.
    """

    def __init__(self, format: SectionFormat, context: ParserContext) -> None:
        super().__init__((format.open, format.close))
        self._format = format
        added = frozenset(context.added_tokens)
        self._opening, self._closing, self._both = (
            compile_markers(markers, added)
            for markers in ((format.open,), (format.close,), (format.open, format.close))
        )
        self._scanner = MarkerScanner(self._both)
        #: Text that belongs to a marker if one follows.
        self._gap: list[str] = []
        #: Inside, and nothing has been written yet.
        self._at_start = True
        self._begin(context.prompt_tail, added)

    def _begin(self, prompt_tail: str, added_tokens: frozenset[str]) -> None:
        close = self._format.close
        before, opened, behind = prompt_tail.rpartition(self._format.open)
        if prompt_tail.rstrip().endswith(close):
            self._state = self._behind if prompt_tail.endswith(close) else self._rest
        elif opened and not behind.strip():
            self._state = self._inside
        elif opened and close not in behind and _same_turn(before, behind, added_tokens):
            self._state = self._inside
            self._at_start = False
        elif self._format.starts_open:
            self._state = self._inside
        else:
            self._state = self._before
            self._scanner.watch(self._opening)

    def _before(self, text: str, pos: int, special: Special | None) -> int:
        passed, found, pos = self._scanner.read(text, pos, special)
        if passed.strip(self._format.trim) or (found is not None and found.text != self._format.open):
            passed = "".join(self._gap) + passed
            held = self._scanner.release()
            self._out += [piece for piece in (Text(passed), found, Text(held)) if piece is not None and piece.text]
            self._gap.clear()
            self._state = self._rest
        elif found is None:
            self._gap.append(passed)
        else:
            self._gap.clear()
            self._scanner.watch(self._both)
            self._state = self._inside
        return pos

    def _inside(self, text: str, pos: int, special: Special | None) -> int:
        passed, found, pos = self._scanner.read(text, pos, special)
        if passed:
            self._reason(passed)
        if found is not None:
            if found.text == self._format.close:
                self._state = self._behind
            elif found.text != self._format.open or not self._at_start:
                self._reason(found.text)
        if not self._at_start and not self._scanner.held:
            self._scanner.watch(self._closing)
        return pos

    def _reason(self, text: str) -> None:
        trim = self._format.trim
        if self._at_start:
            text = text.lstrip(trim)
            self._at_start = not text
        solid = text.rstrip(trim)
        if solid:
            self._out.append(Reasoning("".join(self._gap) + solid))
            self._gap.clear()
        if len(solid) < len(text):
            self._gap.append(text[len(solid) :])

    def _behind(self, text: str, pos: int, special: Special | None) -> int:
        rest = text[pos:].lstrip(self._format.trim)
        if rest:
            self._state = self._rest
        return len(text) - len(rest)

    def _rest(self, text: str, pos: int, special: Special | None) -> int:
        self._out.append(Text(text[pos:]) if special is None else special)
        return len(text)

    def _finish(self) -> None:
        held = "".join(self._gap) + self._scanner.release()
        if held and self._state == self._inside:
            self._out.append(Reasoning(held))
        elif held and self._state == self._before:
            self._out.append(Text(held))


def _same_turn(before: str, behind: str, added_tokens: frozenset[str]) -> bool:
    """Whether a marker between these parts of a prompt is the model's own, from half a thought it is to go on with.

    A marker in a user's words has the token that ends the turn behind it. Of a template that writes no tokens nothing
    can be said, and a user's words must not pass for the model's.
    """
    return any(token in before for token in added_tokens) and not any(token in behind for token in added_tokens)
