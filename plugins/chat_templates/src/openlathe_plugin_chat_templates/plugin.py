"""The templates this package brings."""

from collections.abc import Iterator

from openlathe.spi import ChatTemplateSpec, hookimpl


@hookimpl
def openlathe_chat_templates() -> Iterator[ChatTemplateSpec]:
    yield ChatTemplateSpec(
        name="chatml",
        target="openlathe_plugin_chat_templates:templates/chatml.jinja",
        summary="ChatML: turns between <|im_start|> and <|im_end|>, for fine-tunes that came without a template",
        supports=frozenset({"system"}),
        stop=("<|im_end|>",),
    )
