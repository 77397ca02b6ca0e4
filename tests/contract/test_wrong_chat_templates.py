"""Templates that are wrong in one respect each, and the rule that says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from openlathe.plugins.assemble import assemble
from openlathe.plugins.resolve import resolve
from openlathe.spi import ChatTemplateSpec, InvalidRequest, Provider
from openlathe_sdk.conformance import chat_template as rules

RIGHT = """\
{%- for message in messages -%}
    {{- '<|im_start|>' + message.role + '\\n' + message.content -}}
    {%- for call in message.tool_calls or [] -%}{{- call.function | tojson -}}{%- endfor -%}
    {{- '<|im_end|>\\n' -}}
{%- endfor -%}
{{- tools | tojson if tools -}}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""
TURN = "{%- for message in messages -%}"

WRONG: list[tuple[str, str, Callable[..., None]]] = [
    (TURN, "{%- for message in messages[1:] -%}", rules.test_every_message_is_in_the_prompt_once_and_in_order),
    (TURN, "{%- for message in messages | reverse -%}", rules.test_every_message_is_in_the_prompt_once_and_in_order),
    (TURN, "{%- for message in messages if message.role != 'system' -%}", rules.test_the_system_prompt_comes_first),
    ("tools | tojson if", "tools | map(attribute='function.name') | join if", rules.test_each_tool_is_described),
    ("call.function |", "call.function.name |", rules.test_calls_and_results_are_in_the_history),
    ("{%- if add_generation_prompt -%}", "{%- if false -%}", rules.test_the_generation_prompt_is_added_at_the_end),
    ("assistant\\n", "assistant\\n' + messages[-1].content + '", rules.test_the_generation_prompt_is_added_at_the_end),
    (TURN, "{{- messages | length -}}" + TURN, rules.test_a_prompt_begins_the_prompt_of_the_next_turn),
    ("message.content -", "message.content[:9] -", rules.test_the_last_message_can_be_continued),
    (TURN, "{{- nobody_knows_this -}}" + TURN, rules.test_unknown_arguments_change_nothing),
    ("message.content -", "message.content | replace('\ufdd0', '') -", rules.test_users_and_tools_cannot_forge_a_turn),
]


@pytest.fixture
def provide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Provider]:
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, template: str) -> Provider:
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "template.jinja").write_text(template, encoding="utf-8")
        spec = ChatTemplateSpec(name="wrong", target=f"{name}:template.jinja", supports=frozenset({"system", "tools"}))
        return Provider(spec=spec, distribution="acme", version="1", plugin="acme")

    return make


def test_the_right_one_passes(provide: Callable[[str, str], Provider], monkeypatch: pytest.MonkeyPatch) -> None:
    provider = provide("right_template", RIGHT)
    for rule in {rule for _, _, rule in WRONG}:
        rule(provider)
    rules.test_it_renders_in_the_sandbox_with_room_to_spare(provider, monkeypatch)
    rules.test_transformers_renders_the_same(provider)


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_a_wrong_one_is_caught(provide: Callable[[str, str], Provider], number: int) -> None:
    right, wrong, rule = WRONG[number]
    assert right in RIGHT
    with pytest.raises((AssertionError, InvalidRequest)):
        rule(provide(f"wrong_template_{number}", RIGHT.replace(right, wrong)))


def test_quadratic_work_is_caught(provide: Callable[[str, str], Provider], monkeypatch: pytest.MonkeyPatch) -> None:
    template = RIGHT.replace(TURN, TURN + "{%- for other in messages -%}{%- endfor -%}")
    with pytest.raises(InvalidRequest, match="turns of loops"):
        rules.test_it_renders_in_the_sandbox_with_room_to_spare(provide("quadratic_template", template), monkeypatch)


def test_a_turn_that_the_parsers_cannot_read_is_caught(provide: Callable[[str, str], Provider]) -> None:
    """Against the family that Qwen3's template belongs to: the calls are written without its markers."""
    registry = assemble()
    qwen3 = registry.get("chat-template", "qwen3")
    source = resolve(qwen3).read_text(encoding="utf-8")
    rules.test_the_familys_parsers_read_back_what_it_writes(qwen3, registry)
    package = provide("unread_template", source.replace("<tool_call>", "<call>"))
    wrong = replace(qwen3, spec=replace(qwen3.spec, target=package.spec.target))
    with pytest.raises(AssertionError):
        rules.test_the_familys_parsers_read_back_what_it_writes(wrong, registry)
