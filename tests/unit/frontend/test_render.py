"""Rendering, with transformers' own rendering of the same template as the oracle."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openlathe.config import EngineConfig
from openlathe.frontend.render import ChatRenderer, load_template
from openlathe.frontend.tokenize import Tokenizer
from openlathe.spi import ConfigError, InvalidRequest

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
USER = {"role": "user", "content": "hi"}


def render(source: Any, messages: Any = (USER,), special_tokens: Any = None, **options: Any) -> str:
    return ChatRenderer(source, special_tokens or {}).render(list(messages), **options)


def oracle(source: str, messages: Any, **options: Any) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered, _ = render_jinja_template([list(messages)], chat_template=source, **options)
    return str(rendered[0])


@pytest.mark.parametrize("add_generation_prompt", [True, False])
@pytest.mark.parametrize(
    "source",
    [
        CHATML,
        "{{ bos_token }}{{ messages | tojson }}{{ tools }}{{ documents }}{{ unknown is defined }}",
        "{{ (tools or []) | tojson(indent=4) }}{% for m in messages[::-1] %}{{ m.content | trim }}{% endfor %}",
        "{%- set ns = namespace(n=0) -%}{% for m in messages %}{% generation %}{% set ns.n = ns.n + 1 %}{{ ns.n }}"
        "{% endgeneration %}{% if loop.last %}{% break %}{% endif %}{% endfor %}",
    ],
)
def test_equals_transformers(source: str, add_generation_prompt: bool) -> None:
    messages = [{"role": "system", "content": "é <b>\n"}, USER, {"role": "assistant", "content": " x "}]
    tools = [{"type": "function", "function": {"name": "f", "description": "é", "parameters": {"b": 1, "a": [2]}}}]
    for given_tools in (None, tools):
        ours = render(
            source, messages, {"bos_token": "<s>"}, tools=given_tools, add_generation_prompt=add_generation_prompt
        )
        theirs = oracle(
            source, messages, tools=given_tools, add_generation_prompt=add_generation_prompt, bos_token="<s>"
        )
        assert ours == theirs


@given(last=st.text(alphabet="ae<|im_ \n", max_size=8), trims=st.booleans())
def test_continuing_the_last_message_equals_transformers(last: str, trims: bool) -> None:
    source = CHATML.replace("m.content", "m.content | trim") if trims else CHATML
    messages = [USER, {"role": "assistant", "content": last}]
    ours = render(source, messages, add_generation_prompt=False, continue_final_message=True)
    assert ours == oracle(source, messages, continue_final_message=True)
    assert ours.endswith(last.strip() if trims else last)


def test_continuing_a_message_of_parts() -> None:
    source = "{% for m in messages %}[{% for p in m.content %}{{ p.text }}{% endfor %}]{% endfor %}"
    messages = [USER, {"role": "assistant", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b "}]}]
    assert render(source, messages, add_generation_prompt=False, continue_final_message=True) == "[hi][ab "


@pytest.mark.parametrize(
    "options, message",
    [
        ({"continue_final_message": True}, "set add_generation_prompt to false"),
        ({"continue_final_message": True, "add_generation_prompt": False, "source": "x"}, "cannot be continued"),
        ({"messages": []}, "messages is empty"),
        ({"source": "{{ raise_exception('Roles must\n alternate.') }}"}, r"this conversation: Roles must alternate\.$"),
        ({"source": "{{ messages[0].content.nothing.more }}"}, "has no attribute"),
        ({"source": "{{ 1 / 0 }}"}, "division by zero"),
        ({"source": "{{ messages | tojson(indent=nothing) }}"}, "chat template refused"),
        (
            {"source": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"},
            "turns of loops",
        ),
    ],
)
def test_what_cannot_be_rendered_is_a_bad_request(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        render(**{"source": CHATML, **options})
    assert caught.value.status == 400
    assert "\n" not in str(caught.value)


def test_a_template_that_does_not_compile_is_the_operators_to_mend() -> None:
    with pytest.raises(ConfigError, match=r"line 2: .*--chat-template"):
        ChatRenderer("\n{% for %}", {})


def test_content_in_the_form_the_template_wants() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    loops = "{% for m in messages %}{% for p in m.content %}<{{ p.text }}>{% endfor %}{% endfor %}"
    assert ChatRenderer(loops, {}).content_format == "openai"
    assert render(loops, [USER, {"role": "user", "content": parts}]) == "<hi><a><b>"
    assert ChatRenderer(CHATML, {}).content_format == "string"
    assert "user\na\nb<|im_end|>" in render(CHATML, [{"role": "user", "content": parts}])
    both = "{% if messages[0].content is string %}S{% else %}" + loops + "{% endif %}"
    assert render(both, [USER]) == "S"
    assert render(both, [{"role": "user", "content": parts}]) == "<a><b>"
    forced = ChatRenderer("{{ messages[0].content | tojson }}", {}, content_format="openai")
    assert json.loads(forced.render([USER])) == [{"type": "text", "text": "hi"}]


def test_tools_choose_the_template_for_them() -> None:
    named = {"default": "plain", "tool_use": "tools"}
    assert render(named) == "plain"
    assert render(named, tools=[]) == "plain"
    assert render(named, tools=[{"type": "function"}]) == "tools"
    with pytest.raises(ConfigError, match="no 'default' among rag"):
        ChatRenderer({"rag": "x"}, {})


def test_arguments_of_the_request_do_not_replace_its_messages() -> None:
    source = "{{ messages[0].content }} {{ enable_thinking }} {{ tools }}"
    kwargs = {"messages": [], "enable_thinking": False, "tools": "x", "whatever": 1}
    assert render(source, template_kwargs=kwargs) == "hi False None"


# -- where the template comes from --------------------------------------------------------------------------------


def plan(chat_template: str | None, provided: Path | None = None) -> Any:
    return SimpleNamespace(
        config=EngineConfig(chat_template=chat_template),
        choices={} if provided is None else {"chat-template": SimpleNamespace(name="acme")},
        resolve=lambda slot: {"chat-template": provided}[slot],
    )


def test_sources_of_a_template(tmp_path: Path, byte_level: Tokenizer) -> None:
    provided, given = tmp_path / "acme.jinja", tmp_path / "mine.jinja"
    provided.write_text("from the plugin", encoding="utf-8")
    given.write_text("from the file", encoding="utf-8")
    own = SimpleNamespace(chat_template="from the checkpoint")
    none: Any = byte_level
    assert load_template(plan(None), none) is None
    assert load_template(plan(None, provided), none) == "from the plugin"
    assert load_template(plan(None, provided), own) == "from the checkpoint"  # type: ignore[arg-type]
    assert load_template(plan("acme", provided), own) == "from the plugin"  # type: ignore[arg-type]
    assert load_template(plan("dist/acme", provided), own) == "from the plugin"  # type: ignore[arg-type]
    assert load_template(plan(str(given), provided), own) == "from the file"  # type: ignore[arg-type]
    assert load_template(plan("{{ messages }}", provided), own) == "{{ messages }}"  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["No Such File", "./Missing.jinja", "nothing"])
def test_a_template_that_is_nowhere(name: str, byte_level: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="is neither a file nor the name of a template"):
        load_template(plan(name), byte_level)
