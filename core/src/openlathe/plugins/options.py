"""Options of plugins: ``KIND.NAME.key=value`` checked against what the spec declares and converted to its type."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from ..spi.errors import ConfigError, OpenlatheError
from ..spi.protocols import Provider
from ..spi.specs import KINDS, Option
from .registry import Registry
from .resolve import load

_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def check_options(settings: Mapping[str, str], registry: Registry) -> None:
    """Raises ``ConfigError`` or ``ProviderNotFound`` for a setting that no installed plugin understands."""
    for setting in settings:
        kind, name, key = _split(setting)
        provider = registry.get(kind, name)
        known = [option.name for option in provider.spec.options]
        if key not in known:
            guess = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {guess[0]!r}" if guess else f"it has {', '.join(known) or 'none'}"
            raise ConfigError(f"--opt {setting}: the {kind} {name!r} has no option {key!r}; {hint}.")


def options_of(provider: Provider, settings: Mapping[str, str]) -> dict[str, Any]:
    """Every option of the provider's spec with its value, which is the default where nothing was set."""
    spec = provider.spec
    values = {option.name: option.default for option in spec.options}
    for setting, text in settings.items():
        kind, name, key = _split(setting)
        if kind != spec.kind or name not in (spec.name, *spec.aliases, provider.qualified_name):
            continue
        option = next((option for option in spec.options if option.name == key), None)
        if option is not None:
            values[key] = _convert(setting, option, text)
    return values


def _split(setting: str) -> tuple[str, str, str]:
    """Kinds and keys hold no dot, names may."""
    kind, _, rest = setting.partition(".")
    name, _, key = rest.rpartition(".")
    if not (kind and name and key):
        raise ConfigError(f"--opt {setting} is not understood; write --opt KIND.NAME.key=value.")
    if kind not in KINDS:
        raise ConfigError(f"--opt {setting}: there is no kind {kind!r}; kinds are {', '.join(KINDS)}.")
    return kind, name, key


def _convert(setting: str, option: Option, text: Any) -> Any:
    converters: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "float": float, "bool": _boolean}
    try:
        convert = converters.get(option.type) or load(option.type)
        return convert(str(text))
    except OpenlatheError:
        raise
    except Exception as error:
        raise ConfigError(f"--opt {setting}={text}: {option.name} is of type {option.type} ({error}).") from None


def _boolean(text: str) -> bool:
    if text.lower() in (*_TRUE, *_FALSE):
        return text.lower() in _TRUE
    raise ValueError(f"{text!r} is neither true nor false")
