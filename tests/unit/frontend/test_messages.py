"""Messages of clients in the form templates expect."""

from __future__ import annotations

from typing import Any

import pytest

from openlathe.frontend.messages import prepare
from openlathe.spi import InvalidRequest

PARTS = [{"type": "text", "text": "a"}, {"type": "input_text", "text": "b"}, {"type": "refusal", "refusal": "c"}]


def message(as_parts: bool | None = False, developer: bool = False, **fields: Any) -> dict[str, Any]:
    return prepare({"role": "user", **fields}, 3, as_parts=as_parts, developer=developer)


@pytest.mark.parametrize(
    "content, as_parts, expected",
    [
        ("a", False, "a"),
        ("a", None, "a"),
        ("a", True, [{"type": "text", "text": "a"}]),
        (None, False, ""),
        (None, True, []),
        (PARTS, False, "a\nb\nc"),
        (PARTS, True, [{"type": "text", "text": text} for text in "abc"]),
        (PARTS, None, [{"type": "text", "text": text} for text in "abc"]),
        (["plain"], False, "plain"),
        ([], False, ""),
    ],
)
def test_content(content: Any, as_parts: bool | None, expected: Any) -> None:
    assert message(as_parts, content=content)["content"] == expected


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "video_url", "file"])
def test_media_are_refused_by_name(kind: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"messages\[3\] has a part of type '{kind}'.*send text parts") as caught:
        message(content=[{"type": kind, kind: {"url": "x"}}])
    assert caught.value.param == "messages[3]"


@pytest.mark.parametrize("content", [7, {"text": "a"}, [{"type": "text"}], [{"type": "text", "text": 1}], [7], [{}]])
def test_content_of_other_types_is_refused(content: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"messages\[3\] has"):
        message(content=content)


@pytest.mark.parametrize("broken", [{}, {"role": 1}, "text"])
def test_a_message_needs_a_role(broken: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"messages\[0\] has no role"):
        prepare(broken, 0, as_parts=False, developer=False)


def test_a_template_that_knows_no_developer_is_given_a_system_prompt() -> None:
    assert message(role="developer", content="x")["role"] == "system"
    assert message(role="developer", content="x", developer=True)["role"] == "developer"


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_reasoning_under_both_names(name: str) -> None:
    prepared = message(role="assistant", content="x", **{name: "why"})
    assert (prepared["reasoning"], prepared["reasoning_content"]) == ("why", "why")


def call(arguments: Any) -> dict[str, Any]:
    return {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}


@pytest.mark.parametrize(
    "arguments, expected", [('{"a": "é"}', {"a": "é"}), ({"a": 1}, {"a": 1}), ("", {}), (None, {})]
)
def test_arguments_become_objects(arguments: Any, expected: Any) -> None:
    original = call(arguments)
    prepared = message(role="assistant", content=None, tool_calls=[original])
    assert prepared["tool_calls"] == [call(expected)]
    assert original == call(arguments)


@pytest.mark.parametrize("calls", [[call("{")], [call("[1]")], [call(7)], [{"id": "c"}], [{"function": {}}], ["f"]])
def test_broken_calls_are_refused(calls: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"messages\[3\] has a (tool )?call"):
        message(role="assistant", content="", tool_calls=calls)


def test_no_calls_are_left_out() -> None:
    assert "tool_calls" not in message(role="assistant", content="x", tool_calls=None)
    assert "tool_calls" not in message(role="assistant", content="x", tool_calls=[])
