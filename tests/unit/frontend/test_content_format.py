"""What a template wants as content, read from its syntax tree."""

from __future__ import annotations

import pytest

from openlathe.frontend.content_format import asks_for_string, content_format, mentions
from openlathe.frontend.sandbox import compile_template

LOOP = "{% for message in messages %}%s{% endfor %}"


@pytest.mark.parametrize(
    "inside, expected",
    [
        ("{{ message.content }}", "string"),
        ("{{ message['content'] | trim }}", "string"),
        ("{% for part in message.parts %}{{ part }}{% endfor %}", "string"),
        ("{% set words = message.content.split() %}{% for word in words %}{{ word }}{% endfor %}", "string"),
        ("{% for part in message.content %}{{ part.text }}{% endfor %}", "openai"),
        ("{% for part in message['content'] %}{{ part.text }}{% endfor %}", "openai"),
        ("{% for part in message.content | list %}{{ part.text }}{% endfor %}", "openai"),
        ("{% for part in message.content[1:] %}{{ part.text }}{% endfor %}", "openai"),
        ("{% set parts = message.content or [] %}{% for part in parts %}{{ part.text }}{% endfor %}", "openai"),
        ("{% set a = message.content %}{% set b = a %}{% for part in b %}{{ part.text }}{% endfor %}", "openai"),
        ("{% for part in (message.content if message.content else []) %}{{ part }}{% endfor %}", "openai"),
        (
            "{% macro f(all) %}{% for p in all %}{{ p }}{% endfor %}{% endmacro %}{{ f(message.content) }}",
            "openai",
        ),
    ],
)
def test_format(inside: str, expected: str) -> None:
    _, tree = compile_template(LOOP.replace("%s", inside))
    assert content_format(tree) == expected


def test_other_questions_to_the_tree() -> None:
    _, tree = compile_template("{% if x is string and x == 'developer' %}{% endif %}")
    assert asks_for_string(tree)
    assert mentions(tree, "developer")
    assert not mentions(tree, "system")
    _, tree = compile_template("string developer")
    assert not asks_for_string(tree)
    assert not mentions(tree, "developer")
