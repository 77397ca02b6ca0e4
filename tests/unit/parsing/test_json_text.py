"""The JSON scanner and decoder against the standard library's, under any cut."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from openlathe.parsing import JsonScanner, JsonStringDecoder, Stop

from .json_values import layouts, pieces, points, values

containers = values.filter(lambda value: isinstance(value, (list, dict)))


def scan(scanner: JsonScanner, chunks: list[str]) -> tuple[Stop | None, int]:
    """Where the value ended or failed (None: it did not), and how many characters were read."""
    read = 0
    for chunk in chunks:
        pos = 0
        while pos < len(chunk):
            pos = scanner.feed(chunk, pos)
            if scanner.stop in (Stop.DONE, Stop.FAILED):
                return scanner.stop, read + pos
        read += len(chunk)
    return None, read


@given(containers, layouts, st.text(max_size=5), points)
def test_a_value_ends_where_it_ends(value, layout, rest, points):
    text = json.dumps(value, **layout)
    assert scan(JsonScanner(), pieces(text + rest, points)) == (Stop.DONE, len(text))


@given(containers, layouts, st.data(), points)
def test_valid_is_what_the_standard_library_calls_valid(value, layout, data, points):
    text = json.dumps(value, **layout)
    place = data.draw(st.integers(0, len(text)))
    spoilt = text[:place] + data.draw(st.sampled_from([*'{}[],:"\\-.0eEtu \n', "", "nul", "\\u12"])) + text[place + 1 :]
    found, _ = scan(JsonScanner(opening="{["), pieces(spoilt, points))
    assert (found is Stop.DONE) == begins_with_json(spoilt)


def begins_with_json(text: str) -> bool:
    """Whether a whole object or list stands at the beginning; raw control characters are let through, as ours are."""

    def refuse(name: str) -> None:
        raise ValueError(name)

    try:
        value, _ = json.JSONDecoder(strict=False, parse_constant=refuse).raw_decode(text.lstrip(" \t\r\n"))
    except ValueError:
        return False
    return isinstance(value, (list, dict))


@given(containers, layouts, points)
def test_where_it_fails_does_not_depend_on_cuts(value, layout, points):
    text = json.dumps(value, **layout).replace(":", ";", 1).replace("1", "01", 1).replace("e", "q", 1)
    assert scan(JsonScanner(), pieces(text, points)) == scan(JsonScanner(), [text])


def test_the_reader_of_an_object_is_told_of_its_keys_and_values():
    text, scanner = '{"a": {"b": [1]}, "c": "d"}', JsonScanner()
    stops, pos = [], 0
    while scanner.stop is not Stop.DONE:
        start, pos = pos, scanner.feed(text, pos)
        stops.append((scanner.stop, text[start:pos]))
    assert stops == [
        (Stop.KEY, '{"a"'),
        (Stop.VALUE, ": "),
        (Stop.VALUE_END, '{"b": [1]}'),
        (Stop.KEY, ', "c"'),
        (Stop.VALUE, ": "),
        (Stop.VALUE_END, '"d"'),
        (Stop.DONE, "}"),
    ]


def test_the_first_character_may_be_limited():
    assert scan(JsonScanner(opening="{"), [' ["a"]']) == (Stop.FAILED, 1)
    assert scan(JsonScanner(opening="{"), [" {}"]) == (Stop.DONE, 3)


@given(st.text(), st.booleans(), points)
def test_strings_decode_as_in_the_standard_library(text, ascii_only, points):
    decoder, raw = JsonStringDecoder(), json.dumps(text, ensure_ascii=ascii_only)
    assert "".join(map(decoder.feed, pieces(raw, points))) == text
    assert decoder.held == ""


@given(st.lists(st.sampled_from(["\\ud83d", "\\ude00", "\\n", "\\u0041", "x"])).map("".join), points)
def test_half_a_surrogate_pair_becomes_the_replacement_character(raw, points):
    decoder, raw = JsonStringDecoder(), f'"{raw}"'
    expected = re.sub("[\ud800-\udfff]", "\ufffd", json.loads(raw))
    assert "".join(map(decoder.feed, pieces(raw, points))) == expected


def test_text_is_decoded_as_soon_as_it_can_be():
    decoder = JsonStringDecoder()
    fed = [(decoder.feed(raw), decoder.held) for raw in ('"ab', "\\", "u00", "e9c", "\\ud83d", "\\ude00", '"')]
    assert fed == [("ab", ""), ("", "\\"), ("", "\\u00"), ("éc", ""), ("", ""), ("😀", ""), ("", "")]
