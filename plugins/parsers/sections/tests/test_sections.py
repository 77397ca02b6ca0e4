"""Where a section begins: in the answer, in the prompt, or nowhere."""

from __future__ import annotations

import pytest
from openlathe_plugin_sections.engine import SectionFormat
from openlathe_plugin_sections.formats import QWEN3

from openlathe.spi import ParserContext, Reasoning, Special, Text

TURN = "<|im_start|>assistant\n"
ADDED = frozenset({"<|im_start|>", "<|im_end|>", "<think>", "</think>"})


def parse(output, prompt_tail="", format=QWEN3, added_tokens=frozenset()):
    parser = format(ParserContext(prompt_tail=prompt_tail, added_tokens=added_tokens))
    items = [item for character in output for item in parser.feed([Text(character)])] + parser.finish()
    kinds = (Reasoning, Text)
    return tuple("".join(item.text for item in items if isinstance(item, kind)) for kind in kinds)


@pytest.mark.parametrize("tail", [f"{TURN}<think>", f"{TURN}<think>\n", f"{TURN}<think>\n\n"])
def test_a_prompt_that_ends_with_the_opening_marker_opens(tail):
    assert parse("\nHm.\n</think>\n\nYes.", tail) == ("Hm.", "Yes.")
    assert parse("\nHm.", tail) == ("Hm.", "")


@pytest.mark.parametrize("tail", [f"{TURN}<think>\n\n</think>\n\n", f"{TURN}<think></think> "])
def test_a_prompt_that_ends_with_the_closing_marker_closes(tail):
    assert parse("\n<think>Yes.</think>", tail) == ("", "\n<think>Yes.</think>")


def test_line_breaks_behind_a_closing_marker_are_markup_wherever_it_stands():
    assert parse("\n\nYes.\n", f"{TURN}<think>\n\n</think>") == ("", "Yes.\n")


@pytest.mark.parametrize("added", [frozenset(), ADDED])
def test_a_users_words_about_the_marker_open_nothing(added):
    for tail in (f"<|im_start|>user\nWhat is <think>?<|im_end|>\n{TURN}", "User: What is <think>?\nAssistant:"):
        assert parse("A tag.", tail, added_tokens=added) == ("", "A tag.")


def test_half_a_thought_in_the_prompt_goes_on():
    tail = f"<|im_start|>user\nHi<|im_end|>\n{TURN}<think>\nThe user"
    parser = QWEN3(ParserContext(prompt_tail=tail, added_tokens=ADDED))
    pieces = [Text("\ngreets"), Special(1, "</think>"), Text("\n\nHi!")]
    assert parser.feed(pieces) == [Reasoning("\ngreets"), Text("Hi!")]


def test_a_format_may_begin_inside_its_section():
    format = SectionFormat(open="<think>", close="</think>", starts_open=True)
    assert parse("Hm.\n</think>\n\nYes.", format=format) == ("Hm.", "Yes.")
    assert parse("<think>\nHm.\n</think>\n\nYes.", format=format) == ("Hm.", "Yes.")
    assert parse("Yes.", f"{TURN}<think>\n\n</think>\n\n", format=format) == ("", "Yes.")


def test_tokens_behind_the_section_are_handed_on_as_tokens():
    parser, call = QWEN3(ParserContext()), Special(5, "<tool_call>")
    assert parser.feed([Special(1, "<think>"), Special(2, "</think>"), call, Text("\n")]) == [call, Text("\n")]


def test_a_foreign_token_before_the_section_means_there_is_none():
    parser, image = QWEN3(ParserContext()), Special(5, "<|image|>")
    assert parser.feed([Text("\n<th"), image, Text("<think>")]) == [Text("\n<th"), image, Text("<think>")]


def test_a_foreign_token_inside_is_a_part_of_the_thought():
    parser = QWEN3(ParserContext())
    assert parser.feed([Text("<think>a"), Special(5, "<|image|>")]) == [Reasoning("a"), Reasoning("<|image|>")]
