"""From pieces of generated text to events: the reasoning parser, then the tool parser, then content."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import groupby

from ..spi.events import Content, Event, Piece, Reasoning, Special, Text, ToolCallArguments
from ..spi.protocols import StreamParser

#: Characters of a prompt's end that parsers are shown.
PROMPT_TAIL = 2048

OnError = Callable[[str, Exception], None]
Out = Event | Piece


class OutputParser:
    """Parses the output of one choice; parsers are given in the order of their work, and either may be None.

    A parser that raises is set aside: what it was given and had not answered for, and everything after, goes to the
    next stage as it came. ``on_error(stage, exception)`` hears of it once, with the stage ``"reasoning"`` or
    ``"tools"``.

    Args:
        hidden: ids of the tokens that an answer does not show. Parsers see of them only their own markers.
    """

    def __init__(
        self,
        reasoning: StreamParser | None,
        tools: StreamParser | None,
        *,
        hidden: frozenset[int] = frozenset(),
        on_error: OnError = lambda stage, error: None,
    ) -> None:
        self._hidden = hidden
        parsers = {"reasoning": reasoning, "tools": tools}
        self._stages = [_Stage(name, parser, on_error) for name, parser in parsers.items() if parser is not None]
        self._markers = frozenset(marker for stage in self._stages for marker in stage.markers)

    def feed(self, pieces: Sequence[Piece]) -> list[Event]:
        """The events that ``pieces`` complete; texts of one kind that follow each other come as one event."""
        if not self._stages and len(pieces) == 1 and isinstance(text := pieces[0], Text):
            return [Content(text.text)]
        out: list[Out] = [piece for piece in pieces if self._is_shown(piece)] if self._hidden else list(pieces)
        for stage in self._stages:
            out = stage.process(out)
        return self._events(out)

    def finish(self) -> list[Event]:
        """The end of the stream: what was held back comes out. Nothing may be fed afterwards."""
        out: list[Out] = []
        for stage in self._stages:
            out = stage.process(out) + stage.finish()
        return self._events(out)

    def _is_shown(self, piece: Piece) -> bool:
        return isinstance(piece, Text) or piece.id not in self._hidden or piece.text in self._markers

    def _events(self, out: Iterable[Out]) -> list[Event]:
        shown = (item for item in out if not (isinstance(item, Special) and item.id in self._hidden))
        return list(joined([Content(item.text) if isinstance(item, (Text, Special)) else item for item in shown]))


def joined(events: Sequence[Event]) -> Sequence[Event]:
    """``events`` with texts of one kind that follow each other as one."""
    return events if len(events) < 2 else list(_joined(events))


def _joined(events: Sequence[Event]) -> Iterator[Event]:
    for (kind, index), run in groupby(events, lambda event: (type(event), getattr(event, "index", 0))):
        if kind not in (Content, Reasoning, ToolCallArguments):
            yield from run
            continue
        text = "".join([event.text for event in run])  # type: ignore[union-attr]
        if kind is ToolCallArguments:
            yield ToolCallArguments(index, text)
        else:
            yield Content(text) if kind is Content else Reasoning(text)


class _Stage:
    """One parser, and what becomes of its input should it raise."""

    def __init__(self, name: str, parser: StreamParser, on_error: OnError) -> None:
        self.markers: Collection[str] = getattr(parser, "markers", ())
        self._name = name
        self._parser: StreamParser | None = parser
        self._on_error = on_error
        self._unanswered = _Unanswered()

    def process(self, items: list[Out]) -> list[Out]:
        """Feeds the pieces among ``items`` to the parser; events of an earlier stage keep their place between them."""
        if self._parser is None:
            return items
        if len(items) == 1 and isinstance(piece := items[0], (Text, Special)):
            return self._feed([piece])
        out: list[Out] = []
        run: list[Piece] = []
        for item in items:
            if isinstance(item, (Text, Special)):
                run.append(item)
            else:
                out += self._feed(run)
                out.append(item)
                run = []
        return out + self._feed(run)

    def _feed(self, pieces: list[Piece]) -> list[Out]:
        if not pieces:
            return []
        if self._parser is None:
            return list(pieces)
        self._unanswered.add(pieces)
        try:
            out = self._parser.feed(pieces)
        except Exception as error:
            return self._set_aside(error)
        self._unanswered.strike(out)
        return out

    def finish(self) -> list[Out]:
        if self._parser is None:
            return []
        try:
            return self._parser.finish()
        except Exception as error:
            return self._set_aside(error)

    def _set_aside(self, error: Exception) -> list[Out]:
        self._parser = None
        self._on_error(self._name, error)
        return list(self._unanswered.pieces)


class _Unanswered:
    """The pieces a parser was given and has not answered for, so that they can be delivered should it raise.

    Exact for text that passes through and for sections held back whole. Where a parser rewrites what it reads, its
    answer counts for all it was given.
    """

    def __init__(self) -> None:
        self.pieces: list[Piece] = []

    def add(self, pieces: list[Piece]) -> None:
        self.pieces += pieces

    def strike(self, out: list[Out]) -> None:
        """Forgets what ``out`` answers."""
        if not out:
            return
        if len(out) == len(self.pieces) == 1 and getattr(out[0], "text", None) == self.pieces[0].text:
            self.pieces = []
            return
        text = "".join(piece.text for piece in self.pieces)
        answered = 0
        for item in out:
            answered = _end_of(getattr(item, "text", ""), text, answered)
        self.pieces = _behind(answered, self.pieces)


def _end_of(answer: str, text: str, start: int) -> int:
    """Where ``answer`` ends in ``text``, all of which it counts for if it is not a part of it as it is."""
    if answer and text.startswith(answer, start):
        return start + len(answer)
    found = text.rfind(answer, start) if answer else -1
    return len(text) if found < 0 else found + len(answer)


def _behind(count: int, pieces: list[Piece]) -> list[Piece]:
    """``pieces`` without their first ``count`` characters."""
    for place, piece in enumerate(pieces):
        if count < len(piece.text):
            return [Text(piece.text[count:]) if count else piece, *pieces[place + 1 :]]
        count -= len(piece.text)
    return []
