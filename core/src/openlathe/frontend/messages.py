"""Chat messages as clients send them, in the form that templates of checkpoints expect."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..spi.errors import InvalidRequest

_TEXT_PARTS = ("text", "input_text", "output_text")


def prepare(message: Mapping[str, Any], index: int, *, as_parts: bool | None, developer: bool) -> dict[str, Any]:
    """A copy of ``message``: content in one form, arguments of calls as objects, reasoning under both its names.

    ``as_parts`` true makes strings lists of parts, false joins parts to a string, None leaves both as they are.
    Without ``developer`` that role becomes ``system``. Raises ``InvalidRequest`` naming ``messages[index]``.
    """
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise _invalid(index, "has no role; give each message a role and content")
    prepared = dict(message)
    if prepared["role"] == "developer" and not developer:
        prepared["role"] = "system"
    prepared["content"] = _content(message.get("content"), index, as_parts)
    if calls := message.get("tool_calls"):
        prepared["tool_calls"] = [_call(call, index) for call in calls]
    elif "tool_calls" in prepared:
        del prepared["tool_calls"]
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(reasoning, str):
        prepared["reasoning"] = prepared["reasoning_content"] = reasoning
    return prepared


def _content(content: Any, index: int, as_parts: bool | None) -> Any:
    if content is None:
        return [] if as_parts else ""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if as_parts else content
    if not isinstance(content, Sequence):
        raise _invalid(index, "has content that is neither a string nor a list of parts")
    texts = [_part_text(part, index) for part in content]
    return "\n".join(texts) if as_parts is False else [{"type": "text", "text": text} for text in texts]


def _part_text(part: Any, index: int) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else None
    key = "text" if kind in _TEXT_PARTS else "refusal" if kind == "refusal" else None
    if key is None:
        raise _invalid(index, f"has a part of type {kind!r}, but this model reads text only; send text parts")
    if not isinstance(part.get(key), str):
        raise _invalid(index, f"has a {kind} part without a string {key!r}")
    text: str = part[key]
    return text


def _call(call: Any, index: int) -> dict[str, Any]:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise _invalid(index, "has a tool call without a function name")
    arguments = function.get("arguments")
    if isinstance(arguments, str) or arguments is None:
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            raise _invalid(index, f"has a call of {function['name']!r} whose arguments are no JSON") from None
    if not isinstance(arguments, Mapping):
        raise _invalid(index, f"has a call of {function['name']!r} whose arguments are no JSON object")
    return {**call, "function": {**function, "arguments": arguments}}


def _invalid(index: int, what: str) -> InvalidRequest:
    return InvalidRequest(f"messages[{index}] {what}.", param=f"messages[{index}]")
