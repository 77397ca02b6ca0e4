"""What lies beside tokenizer.json: special tokens, chat templates and added tokens, in each of their spellings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..checkpoint import read_json


@dataclass(frozen=True, kw_only=True)
class TokenizerFiles:
    """The facts of tokenizer_config.json, special_tokens_map.json and the ``.jinja`` files."""

    special_tokens: dict[str, Any] = field(default_factory=dict)
    chat_template: str | dict[str, str] | None = None
    added_tokens: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def read(cls, directory: Path) -> TokenizerFiles:
        """Raises ``CheckpointError`` for a file that is no JSON."""
        config = read_json(directory / "tokenizer_config.json")
        special = special_tokens(read_json(directory / "special_tokens_map.json")) | special_tokens(config)
        added = sorted(config.get("added_tokens_decoder", {}).items(), key=lambda item: int(item[0]))
        return cls(
            special_tokens=special,
            chat_template=_template_file(directory) or _named_templates(config.get("chat_template")),
            added_tokens=tuple(entry for _, entry in added),
        )

    def add_missing_tokens(self, backend: Any) -> None:
        """Gives ``backend`` the added tokens that only the configuration knows, in the order of their ids."""
        from tokenizers import AddedToken

        known = {token.content for token in backend.get_added_tokens_decoder().values()}
        flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
        missing = [
            AddedToken(entry["content"], **{flag: bool(entry[flag]) for flag in flags if flag in entry})
            for entry in self.added_tokens
            if entry["content"] not in known
        ]
        if missing:
            backend.add_tokens(missing)


def special_tokens(config: Mapping[str, Any]) -> dict[str, Any]:
    """``bos_token`` and the like; each is a string, or an object with ``content``, or a list or mapping of either."""
    found: dict[str, Any] = {}
    for name, value in config.items():
        if name.endswith("_token"):
            found[name] = _content(value)
        elif name in ("additional_special_tokens", "extra_special_tokens"):
            if isinstance(value, Mapping):
                found.update({key: _content(token) for key, token in value.items()})
            elif isinstance(value, list):
                found["additional_special_tokens"] = [_content(token) for token in value]
    return {name: value for name, value in found.items() if isinstance(value, str | list)}


def _content(value: Any) -> Any:
    return value.get("content") if isinstance(value, Mapping) else value


def _template_file(directory: Path) -> str | dict[str, str] | None:
    main = directory / "chat_template.jinja"
    named = directory.glob("additional_chat_templates/*.jinja")
    templates = {path.stem: path.read_text(encoding="utf-8") for path in named}
    if main.is_file():
        templates["default"] = main.read_text(encoding="utf-8")
    if not templates:
        return _named_templates(read_json(directory / "chat_template.json").get("chat_template"))
    return templates["default"] if set(templates) == {"default"} else templates


def _named_templates(value: Any) -> str | dict[str, str] | None:
    if isinstance(value, list):
        return {entry["name"]: entry["template"] for entry in value}
    return value if isinstance(value, str | dict) else None
