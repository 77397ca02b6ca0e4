"""Flags, a YAML file and the environment, all made from the metadata of the configuration classes.

A flag beats the file and the file the environment. Spellings follow what people type: sizes like ``8k`` or ``4G``,
``--x``, ``--no-x`` and ``--x true``, underscores for dashes. Nothing that was given is silently ignored.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ..config import EngineConfig, ServerConfig
from ..spi.errors import ConfigError
from . import vllm_flags
from .text import width

Config = TypeVar("Config", EngineConfig, ServerConfig)
_TITLES = {
    "engine": "engine",
    "model": "model",
    "frontend": "templates and parsers",
    "plugins": "parts",
    "server": "server",
}
_UNITS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_SECTIONS = {"plugins", "options"}


class _Help(argparse.HelpFormatter):
    """Wider than argparse's, and a switch is shown without a value."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=width())

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, _Switch):
            return ", ".join(action.option_strings)
        return super()._format_action_invocation(action)


class FlagParser(argparse.ArgumentParser):
    """argparse with our spellings of booleans and dashes, and errors of one sentence."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, "formatter_class": _Help, **kwargs})

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Refuses the unknown here, where the flags of a sub-command are known, and not in the parser above it."""
        parsed, unknown = super().parse_known_args(self._spelt_out(list(args or ())), namespace)
        if unknown:
            known = [flag for flag in self._option_string_actions if flag.startswith("--")]
            guess = difflib.get_close_matches(unknown[0].partition("=")[0], known, n=1)
            self.error(f"there is no {unknown[0]}" + (f"; did you mean {guess[0]}?" if guess else ""))
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message.rstrip('.')}; `{self.prog} --help` lists everything.\n")

    def _spelt_out(self, args: list[str]) -> list[str]:
        """``--x_y`` -> ``--x-y``; ``--flag`` and ``--flag true`` -> ``--flag=true``, so that no other word is eaten."""
        spelt: list[str] = []
        words = iter(range(len(args)))
        for index in words:
            name, equals, value = args[index].partition("=")
            if name == "--":
                return spelt + args[index:]
            if name.startswith("--"):
                name = name.replace("_", "-")
            if not equals and isinstance(self._option_string_actions.get(name), _Switch):
                following = args[index + 1].lower() if index + 1 < len(args) else ""
                equals, value = "=", following if following in _TRUTH else "true"
                if following in _TRUTH:
                    next(words)
            spelt.append(name + equals + value)
        return spelt


class _Switch(argparse.Action):
    """A boolean: ``--x`` and ``--no-x`` share it."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        if values.lower() not in _TRUTH:
            parser.error(f"{option_string} is {values!r}, which is neither true nor false")
        value = _TRUTH[values.lower()]
        setattr(namespace, self.dest, value != (option_string or "").startswith("--no-"))


def add_flags(parser: argparse.ArgumentParser, config_class: type[EngineConfig] | type[ServerConfig]) -> None:
    """One flag per field, grouped; for the engine also ``MODEL``, ``--config`` and the flags known from vLLM."""
    groups: dict[str, Any] = {}
    if config_class is EngineConfig:
        parser.add_argument(
            "positional_model", metavar="MODEL", nargs="?", help="directory, hub id or bundled checkpoint"
        )
        parser.add_argument("--config", metavar="FILE", help="YAML file with the same names as the flags")
        vllm_flags.add_flags(parser)
    for item in fields(config_class):
        title = _TITLES[item.metadata["group"]]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        _add_flag(groups[title], item)


def load(
    config_class: type[Config],
    args: argparse.Namespace,
    env: Mapping[str, str] = os.environ,
    yaml: Mapping[str, Any] | None = None,
) -> Config:
    """The configuration. ``yaml`` is the content of ``--config``, which is read where it is not given."""
    if yaml is None:
        yaml = read_yaml(getattr(args, "config", None))
    known = {item.name: item for item in fields(config_class)}
    values = _from_environment(known, env)
    values |= {name: _from_yaml(item, yaml[name]) for name, item in known.items() if name in yaml}
    if "plugin_options" in known and "options" in yaml:
        values["plugin_options"] = {**values.get("plugin_options", {}), **_flat_options(yaml["options"])}
    for name, item in known.items():
        if name in vars(args):
            given = getattr(args, name)
            values[name] = {**values.get(name, {}), **_merged(given)} if _is_dict(item) else given
    model = getattr(args, "positional_model", None)
    if model is not None and "model" in known:
        if getattr(args, "model", model) != model:
            raise ConfigError(f"Two models were given, {model} and --model {args.model}; give one.")
        values["model"] = model
    return config_class(**values)


def read_yaml(path: str | None) -> dict[str, Any]:
    """The content of a configuration file, keys spelt with underscores; ``ConfigError`` for one that is unknown."""
    if path is None:
        return {}
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"--config {path} cannot be read: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"--config {path} holds {type(content).__name__} where a mapping of settings is expected.")
    settings = {str(key).replace("-", "_"): value for key, value in content.items()}
    known = {item.name for config in (EngineConfig, ServerConfig) for item in fields(config)} | _SECTIONS
    for name in list(settings):
        if name not in known and not vllm_flags.accept(f"--{name.replace('_', '-')}", settings[name]):
            guess = difflib.get_close_matches(name, sorted(known), n=1)
            raise ConfigError(
                f"--config {path}: there is no {name!r}" + (f"; did you mean {guess[0]!r}?" if guess else ".")
            )
    return settings


# -- one field ----------------------------------------------------------------------------------------------------


def _add_flag(group: Any, item: Field[Any]) -> None:
    name = item.name.replace("_", "-")
    names = [flag for flag in item.metadata["flags"] if not flag.startswith("--")] + [f"--{name}"]
    names += [flag for flag in item.metadata["flags"] if flag.startswith("--")]
    options: dict[str, Any] = {"dest": item.name, "default": argparse.SUPPRESS, "help": _help(item)}
    if item.type == "bool":
        group.add_argument(*names, f"--no-{name}", action=_Switch, **options)
        return
    options["metavar"] = item.metadata.get("metavar") or _metavar(item)
    if item.type == "list[str]":
        group.add_argument(*names, nargs="+", action=_Extend, **options)
    elif _is_dict(item):
        group.add_argument(*names, action="append", type=_checked(name, _mapping), **options)
    else:
        group.add_argument(*names, type=_checked(name, _converter(item)), **options)


class _Extend(argparse.Action):
    """A list: words, repeated flags or one JSON list."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        try:
            setattr(namespace, self.dest, [*getattr(namespace, self.dest, []), *_strings(values)])
        except ValueError as error:
            parser.error(f"{option_string}: {error}")


def _checked(name: str, convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Lets argparse print the converter's own sentence instead of its name."""

    def converted(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return converted


def _converter(item: Field[Any]) -> Callable[[str], Any]:
    kind = str(item.type).removesuffix(" | None")
    return {"int": _integer, "float": _number, "bool": _truth, "list[str]": _strings}.get(kind, str)


def _integer(text: str) -> int:
    """``8192``, ``8k`` and ``25.6k`` (thousands), ``8K`` and ``4G`` (powers of 1024)."""
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?)\s*([kmgtKMGT]?)(?:i?[bB])?", text.strip())
    value = float(match[1]) * _UNITS.get(match[2], 1) if match else 0.5
    if value != int(value):
        raise ValueError(f"{text!r} is no whole number (8192, 8k and 4G are understood)")
    return int(value)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None


def _truth(text: str) -> bool:
    if text.strip().lower() not in _TRUTH:
        raise ValueError(f"{text!r} is neither true nor false")
    return _TRUTH[text.strip().lower()]


def _strings(values: str | Sequence[str]) -> list[str]:
    words = [values] if isinstance(values, str) else list(values)
    if len(words) == 1 and words[0].startswith("["):
        parsed = _json(words[0])
        return [str(word) for word in parsed]
    return words


def _mapping(text: str) -> dict[str, Any]:
    """``key=value`` or a JSON object."""
    if text.lstrip().startswith("{"):
        return _json(text)
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"{text!r} is neither key=value nor a JSON object")
    return {key: value}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is no valid JSON ({error})") from None


def _is_dict(item: Field[Any]) -> bool:
    return str(item.type).startswith("dict")


def _merged(given: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for mapping in given for key, value in mapping.items()}


def _help(item: Field[Any]) -> str:
    text = item.metadata["help"].replace("%", "%%")
    shown = item.default if isinstance(item.default, str | int | float) and item.default != "" else None
    if shown is None or shown is False:
        return text
    return f"{text} [{'on' if shown is True else shown}]"


def _metavar(item: Field[Any]) -> str:
    if choices := item.metadata.get("choices"):
        return "{" + ",".join(choices) + "}"
    kind = str(item.type).removesuffix(" | None")
    return {"int": "N", "float": "X", "dict[str, str]": "KEY=VALUE", "dict[str, Any]": "JSON"}.get(kind, "VALUE")


# -- the environment and the file ---------------------------------------------------------------------------------


def _from_environment(known: Mapping[str, Field[Any]], env: Mapping[str, str]) -> dict[str, Any]:
    """``OPENLATHE_<FIELD>``, and the two variables of vLLM that people keep in their deployments."""
    values: dict[str, Any] = {}
    if "api_key" in known and env.get("VLLM_API_KEY"):
        values["api_key"] = [env["VLLM_API_KEY"]]
    if "kv_cache_memory_bytes" in known and env.get("VLLM_CPU_KVCACHE_SPACE"):
        gibibytes = _named("VLLM_CPU_KVCACHE_SPACE", _number, env["VLLM_CPU_KVCACHE_SPACE"])
        if gibibytes:
            values["kv_cache_memory_bytes"] = int(gibibytes * 2**30)
    for name, item in known.items():
        variable = f"OPENLATHE_{name.upper()}"
        if env.get(variable):
            values[name] = _named(variable, _mapping if _is_dict(item) else _converter(item), env[variable])
    return values


def _from_yaml(item: Field[Any], value: Any) -> Any:
    """A value of the file; numbers may be written as flags have them (``8k``)."""
    kind = str(item.type).removesuffix(" | None")
    if isinstance(value, str) and kind != "str":
        return _named(f"{item.name} in --config", _mapping if _is_dict(item) else _converter(item), value)
    if kind == "str" and value is not None:
        return str(value)
    expected: dict[str, tuple[type, ...]] = {
        "int": (int,),
        "float": (int, float),
        "bool": (bool,),
        "list[str]": (list,),
    }
    types = (dict,) if _is_dict(item) else expected.get(kind, (object,))
    wrong = value is not None and (not isinstance(value, types) or (isinstance(value, bool) and kind != "bool"))
    if wrong or (value is None and not str(item.type).endswith("None")):
        raise ConfigError(f"{item.name} in --config is {value!r}; it takes {kind}.")
    return [str(word) for word in value] if kind == "list[str]" else value


def _flat_options(section: Any) -> dict[str, str]:
    """``options: {KIND: {NAME: {key: value}}}`` as ``KIND.NAME.key`` -> value."""
    try:
        return {
            f"{kind}.{name}.{key}": str(value)
            for kind, names in section.items()
            for name, options in names.items()
            for key, value in options.items()
        }
    except AttributeError:
        raise ConfigError(
            "options in --config is not understood; write KIND, below it NAME, below it key: value."
        ) from None


def _named(source: str, convert: Callable[[str], Any], text: str) -> Any:
    try:
        return convert(text)
    except ValueError as error:
        raise ConfigError(f"{source}: {error}.") from None
