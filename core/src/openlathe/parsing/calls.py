"""Tool calls between markers, whatever is written inside: the machine that call formats run on."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ..spi.events import Piece, Special, Text, ToolCallArguments, ToolCallEnd, ToolCallStart
from ..spi.protocols import ParserContext
from .machine import StreamMachine
from .markers import MarkerScanner, compile_markers


def random_call_id(index: int, name: str) -> str:
    """``call_`` and 24 hexadecimal digits, as OpenAI's own ids look."""
    return f"call_{secrets.token_hex(12)}"


class CallBody(Protocol):
    """What stands between the markers of one call; :class:`~openlathe.parsing.JsonCall` is one.

    Attributes:
        name: None until it is known; from then on the call has started.
        done: the call is complete and its arguments are a JSON object.
        failed: this is no call, or not any more; ``feed`` stopped at the character that says so.
        held: what was read behind the start and could not be passed on.
    """

    name: str | None
    done: bool
    failed: bool

    @property
    def held(self) -> str: ...

    def feed(self, text: str, pos: int = 0) -> int: ...

    def take(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class CallFormat(ABC):
    """The description of a call format: calling it with a context makes the parser of one stream.

    Attributes:
        open, close: the markers before and behind one call. A closing marker may be missing.
        trim: characters that belong to a marker they stand next to, outside of it.
        call_id: ``(index, name) -> id``.
    """

    open: tuple[str, ...]
    close: tuple[str, ...] = ()
    trim: str = " \t\r\n"
    call_id: Callable[[int, str], str] = random_call_id

    @abstractmethod
    def body(self, context: ParserContext) -> CallBody:
        """A fresh reader of one call."""

    def __call__(self, context: ParserContext) -> MarkedCalls:
        return MarkedCalls(self, context)


class MarkedCalls(StreamMachine):
    """Reads calls of one format; everything else is handed on as pieces.

    A call whose body fails before its start, or that the stream's end cuts before it, is handed on whole, markers
    included. One that fails later keeps what was sent and gets no end. Reading goes on behind either.
    """

    def __init__(self, format: CallFormat, context: ParserContext) -> None:
        super().__init__((*format.open, *format.close))
        self._format = format
        self._context = context
        added = frozenset(context.added_tokens)
        self._opening = compile_markers(format.open, added)
        self._any_marker = compile_markers((*format.open, *format.close), added)
        self._scanner = MarkerScanner(self._opening)
        self._state = self._outside
        #: Text that belongs to a marker if one follows.
        self._gap: list[str] = []
        #: Nothing but such text since a call ended; and its closing marker has not been seen either.
        self._after_call = False
        self._close_due = False
        #: The call that is being read, or comes next.
        self._index = 0
        self._body = format.body(context)
        self._started = False
        #: What was read of it before it started, as it came.
        self._unstarted: list[Piece] = []

    # -- between calls

    def _outside(self, text: str, pos: int, special: Special | None) -> int:
        passed, found, pos = self._scanner.read(text, pos, special)
        if passed:
            self._pass_text(passed)
        if found is not None:
            if found.text in self._format.open:
                self._begin_call(found)
            elif self._close_due and found.text in self._format.close:
                self._gap.clear()
                self._close_due = False
            else:
                self._pass_piece(found)
        if not self._close_due and not self._scanner.held:
            self._scanner.watch(self._opening)
        return pos

    def _pass_text(self, text: str) -> None:
        solid = text.rstrip(self._format.trim)
        if solid:
            self._flush_gap()
            self._out.append(Text(solid))
        if len(solid) < len(text):
            self._gap.append(text[len(solid) :])

    def _pass_piece(self, piece: Piece) -> None:
        self._flush_gap()
        self._out.append(piece)

    def _flush_gap(self) -> None:
        self._out.extend(map(Text, self._gap))
        self._gap.clear()
        self._after_call = self._close_due = False

    # -- inside a call

    def _begin_call(self, marker: Piece) -> None:
        self._unstarted = [*map(Text, self._gap), marker]
        self._gap.clear()
        self._body = self._format.body(self._context)
        self._started = False
        self._state = self._inside

    def _inside(self, text: str, pos: int, special: Special | None) -> int:
        body = self._body
        end = body.feed(text, pos)
        if not self._started:
            if end > pos:
                self._unstarted.append(special if special is not None and end == len(text) else Text(text[pos:end]))
            if body.name is not None:
                self._start_call(body.name)
        if self._started and (arguments := body.take()):
            self._out.append(ToolCallArguments(self._index, arguments))
        if body.done:
            self._end_call()
        elif body.failed:
            self._give_up()
        return end

    def _start_call(self, name: str) -> None:
        self._out.append(ToolCallStart(self._index, self._format.call_id(self._index, name), name))
        self._started = True
        self._unstarted = []

    def _end_call(self) -> None:
        self._out.append(ToolCallEnd(self._index))
        self._index += 1
        self._after_call = self._close_due = True
        self._scanner.watch(self._any_marker)
        self._state = self._outside

    def _give_up(self) -> None:
        if self._started:
            self._index += 1
            if self._body.held:
                self._out.append(Text(self._body.held))
        self._out.extend(self._unstarted)
        self._after_call = self._close_due = False
        self._scanner.watch(self._opening)
        self._state = self._outside

    def _finish(self) -> None:
        if self._state == self._inside:
            self._give_up()
            return
        self._pass_text(self._scanner.release())
        if not self._after_call:
            self._flush_gap()
