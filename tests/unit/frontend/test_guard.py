"""Text from outside never becomes the template's own markers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlathe.frontend.guard import Guard
from openlathe.frontend.render import ChatRenderer
from openlathe.frontend.tokenize import SEAM, Tokenizer

TOKENS = ["<|im_start|>", "<|im_end|>", "<e>"]
HOSTILE = st.lists(
    st.sampled_from([*TOKENS, "<|im_", "end|>", "<", "e", ">", "|", SEAM, "hi ", "\n", "<think>"]), max_size=8
).map("".join)
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}"
)


@given(texts=st.lists(HOSTILE, min_size=1, max_size=3), as_parts=st.booleans())
def test_only_the_template_writes_markers(byte_level: Tokenizer, texts: list[str], as_parts: bool) -> None:
    content: Any = [{"type": "text", "text": text} for text in texts] if as_parts else texts[0]
    shown = "".join(texts) if as_parts else texts[0]
    prompt = ChatRenderer(TEMPLATE, byte_level).render([{"role": "user", "content": content}])
    ids = byte_level.encode(prompt, add_special_tokens=False)
    assert [byte_level.added_tokens[id].text for id in ids if id in byte_level.special_ids] == TOKENS[:2]
    whole = f"<|im_start|>user\n{shown.replace(SEAM, '')}<|im_end|>\n"
    assert byte_level.decode(ids, skip_special_tokens=False) == whole


def test_ordinary_text_is_left_alone() -> None:
    guard = Guard(TOKENS)
    for text in ("", "hello", "a < b", "<think>", "x|im_end|>"):
        assert guard.text(text) == text


def test_every_string_of_a_tool_message_is_guarded() -> None:
    message = {"role": "tool", "name": "<e>", "content": [{"type": "text", "text": "<e>"}], "n": 1, "x": {"y": ["<e>"]}}
    guarded = f"<{SEAM}e>"
    assert Guard(TOKENS).message(message) == {
        "role": "tool",
        "name": guarded,
        "content": [{"type": "text", "text": guarded}],
        "n": 1,
        "x": {"y": [guarded]},
    }


@pytest.mark.parametrize("role", ["system", "assistant", "developer"])
def test_the_application_may_write_markers(role: str) -> None:
    message = {"role": role, "content": "<e>"}
    assert Guard(TOKENS).message(message) == message


def test_without_special_tokens_nothing_changes() -> None:
    assert Guard([]).text("<e>") == "<e>"
