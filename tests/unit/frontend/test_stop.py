"""Stop strings against a search in the whole text."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlathe.frontend.stop import StopStrings
from openlathe.spi import Piece, Special, Text

STOPS = st.lists(st.text(alphabet="ab<>", min_size=1, max_size=4), min_size=1, max_size=4)
SHOWN, HIDDEN = 7, 8


def oracle(text: str, stops: list[str]) -> tuple[int, int, str] | None:
    """(start, end, stop) of the match that ends first, the longest of several."""
    found = [(at + len(stop), -len(stop), stop) for stop in stops if (at := text.find(stop)) >= 0]
    if not found:
        return None
    end, length, stop = min(found)
    return end + length, end, stop


def run(stops: StopStrings, pieces: list[Piece]) -> tuple[list[Piece], str | None]:
    out: list[Piece] = []
    for piece in pieces:
        more, matched = stops.feed([piece])
        out += more
        if matched is not None:
            return out, matched
    return out + stops.finish(), None


def visible(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces if isinstance(piece, Text) or piece.id != HIDDEN)


PIECES = st.lists(
    st.one_of(
        st.text(alphabet="ab<>", min_size=1, max_size=6).map(Text),
        st.just(Special(SHOWN, "<b>")),
        st.just(Special(HIDDEN, "<a>")),
    ),
    max_size=8,
)


@given(pieces=PIECES, stops=STOPS, include=st.booleans())
def test_equals_a_search_in_the_whole_text(pieces: list[Piece], stops: list[str], include: bool) -> None:
    out, matched = run(StopStrings(stops, include, hidden=frozenset({HIDDEN})), pieces)
    text = visible(pieces)
    expected = oracle(text, stops)
    if expected is None:
        assert (visible(out), matched) == (text, None)
    else:
        start, end, stop = expected
        assert (visible(out), matched) == (text[: end if include else start], stop)


@given(pieces=PIECES, stops=STOPS)
def test_without_a_match_the_pieces_keep_their_kinds(pieces: list[Piece], stops: list[str]) -> None:
    out, matched = run(StopStrings(stops, hidden=frozenset({HIDDEN})), pieces)
    if matched is None:
        specials = [piece for piece in pieces if isinstance(piece, Special)]
        assert [piece for piece in out if isinstance(piece, Special)] == specials


@given(text=st.text(alphabet="ab<>", min_size=1, max_size=40), stops=STOPS, data=st.data())
def test_does_not_depend_on_cuts(text: str, stops: list[str], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=10)) | {0, len(text)})
    parts: list[Piece] = [Text(text[start:end]) for start, end in pairwise(cuts)]
    cut_out, cut_match = run(StopStrings(stops), parts)
    whole_out, whole_match = run(StopStrings(stops), [Text(text)])
    assert (visible(cut_out), cut_match) == (visible(whole_out), whole_match)


@given(
    text=st.text(alphabet="ab", max_size=20), stops=st.lists(st.text(alphabet="ab", min_size=1, max_size=5), max_size=3)
)
def test_holds_back_the_least_possible(text: str, stops: list[str]) -> None:
    scanner = StopStrings(stops)
    seen = sent = ""
    for character in text:
        out, matched = scanner.feed([Text(character)])
        if matched is not None:
            return
        seen, sent = seen + character, sent + visible(out)
        # A stop string that contains another is never reached.
        possible = [stop for stop in stops if not any(other in stop[:-1] for other in stops)]
        could_begin = [n for stop in possible for n in range(len(stop)) if seen.endswith(stop[:n])]
        assert len(seen) - len(sent) == max(could_begin, default=0)


@pytest.mark.parametrize(
    "stops, pieces, expected",
    [
        (["END"], [Text("aE"), Text("ND more")], ([Text("a")], "END")),
        (["k>x"], [Special(SHOWN, "<think>"), Text("xy")], ([Text("<thin")], "k>x")),
        (["<think>"], [Special(SHOWN, "<think>")], ([], "<think>")),
        (
            ["<a>"],
            [Text("t"), Special(HIDDEN, "<a>"), Text("u")],
            ([Text("t"), Special(HIDDEN, "<a>"), Text("u")], None),
        ),
        (["tu"], [Text("t"), Special(HIDDEN, "<a>"), Text("u")], ([], "tu")),
        (["abc", "b"], [Text("abc")], ([Text("a")], "b")),
        (["", "x"], [Text("ax")], ([Text("a")], "x")),
    ],
)
def test_examples(stops: list[str], pieces: list[Piece], expected: tuple[list[Piece], str | None]) -> None:
    assert run(StopStrings(stops, hidden=frozenset({HIDDEN})), pieces) == expected


def test_nothing_comes_after_a_match() -> None:
    stops = StopStrings(["x"])
    assert stops.feed([Text("ax")]) == ([Text("a")], "x")
    assert stops.feed([Text("more")]) == ([], None)
    assert stops.finish() == []
