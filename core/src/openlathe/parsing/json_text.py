"""JSON that arrives in parts: where a value ends, whether it is valid, what a string says. Nothing is read twice."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Callable

_SPACE = re.compile(r"[ \t\n\r]*")
_STRING_RUN = re.compile(r'[^"\\\x00-\x1f]*')
_SCALAR_RUN = re.compile(r"[-+.0-9A-Za-z]*")
_SCALAR = re.compile(r"true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_SCALAR_START = frozenset("-0123456789tfn")
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_REPLACEMENT = "\ufffd"
#: A run without escapes, a whole escape, or the beginning of one at the end of the text.
_RUNS = re.compile(r"[^\\]+|\\u[0-9a-fA-F]{0,4}|\\[^u]?")


class Stop(enum.Enum):
    """Why :meth:`JsonScanner.feed` came back before the text ended."""

    KEY = "a key of the outermost object has just ended"
    VALUE = "a value of the outermost object begins here"
    VALUE_END = "a value of the outermost object has just ended"
    CONTROL = "the last character read is a raw control character inside a string"
    DONE = "the whole value has ended"
    FAILED = "the character here cannot follow: this is not JSON"


class JsonScanner:
    """Follows and checks one JSON value (RFC 8259) character by character in effect, run by run in fact.

    ``opening`` limits the character the value may begin with. A raw control character inside a string, which JSON
    forbids and models write, is reported instead of refused, so that the reader can escape it.
    """

    __slots__ = ("_announced", "_hex", "_in_key", "_opening", "_scalar", "_stack", "_state", "stop")

    def __init__(self, opening: str = "") -> None:
        self.stop: Stop | None = None
        self._opening = opening
        self._state: Callable[[str, int], int] = self._value
        self._stack: list[str] = []
        self._in_key = False
        self._announced = False
        self._scalar = ""
        self._hex = 0

    def feed(self, text: str, pos: int = 0) -> int:
        """Reads ``text`` from ``pos``; returns where it came to and leaves in ``stop`` why, None for the text's end.

        Must not be called again after ``DONE`` or ``FAILED``.
        """
        self.stop = None
        end = len(text)
        while pos < end and self.stop is None:
            pos = self._state(text, pos)
        return pos

    # Each state reads some of the text, sets the next state and returns how far it came; it may stop at the end of
    # the text at any point.

    def _value(self, text: str, pos: int) -> int:
        pos = _skip_space(text, pos)
        if pos == len(text):
            return pos
        if self._stack == ["{"] and not self._announced:
            self._announced = True
            return self._halt(Stop.VALUE, pos)
        self._announced = False
        character = text[pos]
        if not self._stack and self._opening and character not in self._opening:
            return self._halt(Stop.FAILED, pos)
        if character == '"':
            self._state = self._string
        elif character in "{[":
            self._stack.append(character)
            self._state = self._first_key if character == "{" else self._first_item
        elif character in _SCALAR_START:
            self._scalar = ""
            self._state = self._scalar_run
            return pos
        else:
            return self._halt(Stop.FAILED, pos)
        return pos + 1

    def _first_item(self, text: str, pos: int) -> int:
        pos = _skip_space(text, pos)
        if pos < len(text):
            if text[pos] == "]":
                return self._close(pos)
            self._state = self._value
        return pos

    def _first_key(self, text: str, pos: int) -> int:
        pos = _skip_space(text, pos)
        if pos < len(text):
            if text[pos] == "}":
                return self._close(pos)
            self._state = self._key
        return pos

    def _key(self, text: str, pos: int) -> int:
        pos = _skip_space(text, pos)
        if pos == len(text):
            return pos
        if text[pos] != '"':
            return self._halt(Stop.FAILED, pos)
        self._in_key = True
        self._state = self._string
        return pos + 1

    def _colon(self, text: str, pos: int) -> int:
        pos = _skip_space(text, pos)
        if pos == len(text):
            return pos
        if text[pos] != ":":
            return self._halt(Stop.FAILED, pos)
        self._state = self._value
        return pos + 1

    def _next(self, text: str, pos: int) -> int:
        pos = _skip_space(text, pos)
        if pos == len(text):
            return pos
        in_object = self._stack[-1] == "{"
        if text[pos] == ",":
            self._state = self._key if in_object else self._value
            return pos + 1
        if text[pos] == ("}" if in_object else "]"):
            return self._close(pos)
        return self._halt(Stop.FAILED, pos)

    def _string(self, text: str, pos: int) -> int:
        pos = _STRING_RUN.match(text, pos).end()  # type: ignore[union-attr]  # it matches the empty run
        if pos == len(text):
            return pos
        if text[pos] == "\\":
            self._state = self._escape
        elif text[pos] != '"':
            self.stop = Stop.CONTROL
        elif self._in_key:
            self._in_key = False
            self._state = self._colon
            if len(self._stack) == 1:
                self.stop = Stop.KEY
        else:
            self._value_ends()
        return pos + 1

    def _escape(self, text: str, pos: int) -> int:
        if text[pos] == "u":
            self._hex = 4
            self._state = self._hex_digit
        elif text[pos] in _ESCAPES:
            self._state = self._string
        else:
            return self._halt(Stop.FAILED, pos)
        return pos + 1

    def _hex_digit(self, text: str, pos: int) -> int:
        if text[pos] not in _HEX_DIGITS:
            return self._halt(Stop.FAILED, pos)
        self._hex -= 1
        if not self._hex:
            self._state = self._string
        return pos + 1

    def _scalar_run(self, text: str, pos: int) -> int:
        end = _SCALAR_RUN.match(text, pos).end()  # type: ignore[union-attr]  # it matches the empty run
        self._scalar += text[pos:end]
        if end < len(text):
            if not _SCALAR.fullmatch(self._scalar):
                return self._halt(Stop.FAILED, end)
            self._value_ends()
        return end

    def _close(self, pos: int) -> int:
        self._stack.pop()
        self._value_ends()
        return pos + 1

    def _value_ends(self) -> None:
        self._state = self._next
        if not self._stack:
            self.stop = Stop.DONE
        elif len(self._stack) == 1:
            self.stop = Stop.VALUE_END

    def _halt(self, stop: Stop, pos: int) -> int:
        self.stop = stop
        return pos


def _skip_space(text: str, pos: int) -> int:
    return _SPACE.match(text, pos).end()  # type: ignore[union-attr]  # it matches the empty run


def escape_control(run: str, stop: Stop | None) -> str:
    """The characters read up to ``stop`` as JSON allows them: a control character at their end becomes its escape."""
    return run if stop is not Stop.CONTROL else run[:-1] + json.dumps(run[-1])[1:-1]


class JsonStringDecoder:
    """The text of one JSON string whose raw characters, quotes included, have been checked and arrive in parts."""

    __slots__ = ("_high", "held")

    def __init__(self) -> None:
        #: The raw beginning of an escape that is not complete yet.
        self.held = ""
        #: The first half of a surrogate pair; 0 for none.
        self._high = 0

    def feed(self, raw: str) -> str:
        """The text that ``raw`` adds. Half a surrogate pair becomes U+FFFD as soon as the other half cannot follow."""
        decoded: list[str] = []
        raw, self.held = self.held + raw, ""
        for run in _RUNS.findall(raw):
            if run[0] != "\\":
                self._settle(decoded)
                decoded.append(run.replace('"', ""))
            elif len(run) == (6 if run[1:2] == "u" else 2):
                self._unescape(run, decoded)
            else:
                self.held = run
        return "".join(decoded)

    def _unescape(self, escape: str, decoded: list[str]) -> None:
        if escape[1] != "u":
            self._settle(decoded)
            decoded.append(_ESCAPES[escape[1]])
            return
        code = int(escape[2:], 16)
        if self._high and 0xDC00 <= code < 0xE000:
            decoded.append(chr(0x10000 + ((self._high - 0xD800) << 10) + (code - 0xDC00)))
            self._high = 0
            return
        self._settle(decoded)
        if 0xD800 <= code < 0xDC00:
            self._high = code
        else:
            decoded.append(_REPLACEMENT if 0xDC00 <= code < 0xE000 else chr(code))

    def _settle(self, decoded: list[str]) -> None:
        if self._high:
            self._high = 0
            decoded.append(_REPLACEMENT)
