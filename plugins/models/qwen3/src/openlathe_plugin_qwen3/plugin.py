"""Qwen3: the dense family and its chat template."""

from __future__ import annotations

from collections.abc import Iterable

from openlathe.spi import ChatTemplateSpec, ModelSpec, hookimpl


@hookimpl
def openlathe_models() -> Iterable[ModelSpec]:
    yield ModelSpec(
        name="qwen3",
        summary="Qwen3, dense",
        architectures=("Qwen3ForCausalLM",),
        target="openlathe_plugin_qwen3.modeling:Qwen3ForCausalLM",
        config="openlathe_plugin_qwen3.config:Qwen3Config",
        lora_modules=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        tool_parser="hermes",
        reasoning_parser="qwen3",
        chat_template="qwen3",
        reference="Qwen3ForCausalLM",
        tiny_config="openlathe_plugin_qwen3:tiny.json",
        checked=("transformers 5.23",),
    )


@hookimpl
def openlathe_chat_templates() -> Iterable[ChatTemplateSpec]:
    yield ChatTemplateSpec(
        name="qwen3",
        summary="Qwen3: ChatML with thinking and tools",
        target="openlathe_plugin_qwen3:templates/qwen3.jinja",
        supports=frozenset({"tools", "system", "reasoning"}),
    )
