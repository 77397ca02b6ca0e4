"""One choice on its way from tokens to deltas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlathe.engine.messages import RequestOutput, SamplingParams, TokenLogprobs
from openlathe.frontend.choice import Choice, Delta
from openlathe.frontend.tokenize import Tokenizer
from openlathe.spi.events import Content, ToolCallArguments, ToolCallEnd, ToolCallStart

TEXT = "The quick brown fox é 😀 jumps."


@pytest.fixture(scope="module")
def tokens(tiny_checkpoint: Path) -> Tokenizer:
    return Tokenizer.load(tiny_checkpoint)


def run(tokens: Tokenizer, ids: list[int], cuts: list[int], finish: str = "length", **sampling: Any) -> list[Delta]:
    """Feeds ``ids``, cut into outputs of the given sizes, and stops where the choice does."""

    def fail(stage: str, error: Exception) -> None:
        raise error

    choice = Choice(tokens, [], SamplingParams(max_tokens=None, **sampling), on_parser_error=fail)
    deltas, start = [], 0
    for size in [*cuts, len(ids)]:
        part = ids[start : start + size]
        start += len(part)
        last = start >= len(ids)
        logprobs = [TokenLogprobs([id], [-1.0], 1) for id in part]
        reason: Any = finish if last else None
        output = RequestOutput(
            request_id="r", token_ids=part, logprobs=logprobs, finish_reason=reason,
            stop_reason=part[-1] if finish == "stop" and last else None,
        )  # fmt: skip
        deltas.append(choice.feed([output]))
        if deltas[-1].finish_reason is not None:
            break
    return deltas


def text_of(deltas: list[Delta]) -> str:
    return "".join(event.text for delta in deltas for event in delta.events if isinstance(event, Content))


@given(cuts=st.lists(st.integers(1, 5), max_size=20))
def test_the_cut_of_the_stream_does_not_matter(tokens: Tokenizer, cuts: list[int]) -> None:
    ids = tokens.encode(TEXT)
    deltas = run(tokens, ids, cuts)
    assert text_of(deltas) == TEXT
    assert [id for delta in deltas for id in delta.token_ids] == ids
    assert all(len(delta.logprobs) == len(delta.token_ids) for delta in deltas)
    assert [delta.finish_reason for delta in deltas] == [None] * (len(deltas) - 1) + ["length"]


@given(cuts=st.lists(st.integers(1, 5), max_size=20), include=st.booleans())
def test_a_stop_string_ends_it_at_the_token_that_completed_it(
    tokens: Tokenizer, cuts: list[int], include: bool
) -> None:
    ids = tokens.encode(TEXT)
    deltas = run(tokens, ids, cuts, stop=["nowhere", "fox é"], include_stop_str_in_output=include)
    head = "The quick brown "
    assert text_of(deltas) == head + ("fox é" if include else "")
    assert (deltas[-1].finish_reason, deltas[-1].stop_reason) == ("stop", "fox é")
    used = [id for delta in deltas for id in delta.token_ids]
    assert "fox é" in tokens.decode(used)
    assert "fox é" not in tokens.decode(used[:-1])
    assert sum(len(delta.logprobs) for delta in deltas) == len(used)


def test_a_stop_string_counts_only_behind_min_tokens(tokens: Tokenizer) -> None:
    ids = tokens.encode(TEXT)
    assert text_of(run(tokens, ids, [1] * 50, stop=["The"], min_tokens=4)) == TEXT


def test_what_was_held_back_comes_out_at_the_end(tokens: Tokenizer) -> None:
    assert text_of(run(tokens, tokens.encode("one tw"), [1, 1], stop=["two"])) == "one tw"


def test_the_stop_token_is_counted_and_not_shown(tokens: Tokenizer) -> None:
    ids = tokens.encode("one two")
    (delta,) = run(tokens, ids, [], "stop", stop_token_ids=[ids[-1]])
    assert delta.token_ids == ids
    assert text_of([delta]) == tokens.decode(ids[:-1])
    assert delta.stop_reason == ids[-1]
    (delta,) = run(tokens, ids, [], "stop")
    assert delta.stop_reason is None, "an end-of-sequence token is no reason of the client's"
    (delta,) = run(tokens, ids, [], "stop", include_stop_str_in_output=True)
    assert text_of([delta]) == "one two"


class OneCallPerPiece:
    """A tool parser that makes a call of every piece it gets."""

    def __init__(self, *, ends: bool = True) -> None:
        self.calls = 0
        self.ends = ends

    def feed(self, pieces: Any) -> list[Any]:
        events: list[Any] = []
        for _ in pieces:
            index, self.calls = self.calls, self.calls + 1
            events += [ToolCallStart(index, f"c{index}", "f"), ToolCallArguments(index, "{}")]
            events += [ToolCallEnd(index)] if self.ends else []
        return events

    def finish(self) -> list[Any]:
        return []


@pytest.mark.parametrize(
    "finish, ends, expected", [("stop", True, "tool_calls"), ("length", True, "length"), ("stop", False, "stop")]
)
def test_completed_calls_are_the_reason_of_the_end(tokens: Tokenizer, finish: Any, ends: bool, expected: str) -> None:
    parser = OneCallPerPiece(ends=ends)
    choice = Choice(tokens, [], SamplingParams(), tools=parser, on_parser_error=lambda stage, error: None)
    ids = tokens.encode("one two three")
    delta = choice.feed([RequestOutput(request_id="r", token_ids=ids, finish_reason=finish)])
    assert delta.finish_reason == expected


def test_a_single_call(tokens: Tokenizer) -> None:
    parser = OneCallPerPiece()
    choice = Choice(
        tokens, [], SamplingParams(), tools=parser, single_call=True, on_parser_error=lambda stage, error: None
    )
    first, *others = tokens.encode("one two three")
    outputs = [RequestOutput(request_id="r", token_ids=[id]) for id in others]
    delta = choice.feed([*outputs, RequestOutput(request_id="r", token_ids=[first], finish_reason="length")])
    assert parser.calls > 1
    assert {event.index for event in delta.events if isinstance(event, ToolCallStart)} == {0}
    assert choice.calls == 1


def test_the_tokens_of_an_output_are_read_and_parsed_in_one_go(tokens: Tokenizer) -> None:
    parser = OneCallPerPiece()
    choice = Choice(tokens, [], SamplingParams(), tools=parser, on_parser_error=lambda stage, error: None)
    ids = tokens.encode("one two three")
    delta = choice.feed([RequestOutput(request_id="r", token_ids=ids)])
    assert delta.token_ids == ids
    assert parser.calls == 1
