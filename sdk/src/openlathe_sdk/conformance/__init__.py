"""The conformance kit: what a plugin must keep, as tests that run against it.

A plugin's author writes one file, ``tests/test_conformance.py``::

    from openlathe_sdk.conformance import suite

    TestAcme = suite("openlathe-plugin-acme")

and anybody may ask about a plugin that is installed, without any file::

    pytest --pyargs openlathe_sdk.conformance --plugin openlathe-plugin-acme

Which suites run follows from what the plugin contributes, and which rules from what its specs declare: declaring less
is honest, declaring falsely fails. A suite is a module of rules; a rule is a test function that takes the ``provider``
(or the ``plugin``) it is about, and whose docstring says what every such plugin keeps. Where a suite is about some
providers of a kind only, its module's ``ONLY`` says which, in the terms of :func:`only`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, ClassVar, TypeVar

import pytest

from openlathe.plugins.assemble import assemble
from openlathe.plugins.discover import Candidate
from openlathe.plugins.registry import Contribution, PluginRecord, Registry, State
from openlathe.spi import KINDS

#: Suite -> the kinds it is about. ``plugin`` holds for every plugin, whatever it contributes.
SUITES: dict[str, tuple[str, ...]] = {
    "plugin": tuple(KINDS),
    "parser": ("tool-parser", "reasoning-parser"),
    "chat_template": ("chat-template",),
    "score_template": ("chat-template",),
    "model": ("model",),
    "generation": ("model",),
    "pooling": ("model",),
    "attention": ("attention-backend",),
    "operators": ("kernel",),
    "quantized": ("kernel",),
    "steps": ("kernel",),
    "invariance": ("kernel", "attention-backend"),
    "model_invariance": ("model",),
    "logits_processor": ("logits-processor",),
    "command": ("command",),
}

Rule = TypeVar("Rule", bound=Callable)


class Rules:
    """The rules of one suite as a test class; ``pytest`` collects those that :func:`suite` makes."""

    registry: ClassVar[Registry]
    plugins: ClassVar[Sequence[PluginRecord]]
    contributions: ClassVar[Sequence[Contribution]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Hands out what the rule asks for: each ``plugin`` or each ``provider``."""
        if "plugin" in metafunc.fixturenames:
            metafunc.parametrize("plugin", self.plugins, ids=[plugin.name for plugin in self.plugins], scope="class")
        if "provider" in metafunc.fixturenames:
            concerned = [_parameter(item) for item in self.contributions if _concerns(metafunc.function, item)]
            metafunc.parametrize("provider", concerned, scope="class")


def only(**facts: Any) -> Callable[[Rule], Rule]:
    """A rule for those providers only whose specs have these values: ``@only(operator="attend")``.

    A tuple of values means any of them, a function decides by itself.
    """

    def mark(rule: Rule) -> Rule:
        rule.only = facts  # type: ignore[attr-defined]
        return rule

    return mark


def suite(*names: str, candidates: Iterable[Candidate] | None = None) -> type:
    """A test class with every suite that applies to the plugins called ``names``.

    A name is that of a distribution, of an entry point, or ``distribution:entry-point``. ``candidates`` stand in for
    what is installed. Raises ``pytest.UsageError`` for a name that no plugin has.
    """
    registry = assemble(candidates=candidates)
    plugins = [plugin for name in names for plugin in named(registry, name)]
    members = {
        f"Test{title.title().replace('_', '')}": _rules(title, registry, plugins)
        for title, kinds in SUITES.items()
        if title == "plugin" or _contributions(plugins, kinds)
    }
    return type("Suite", (), members)


def named(registry: Registry, name: str) -> list[PluginRecord]:
    """The plugins that ``name`` means: all those of a distribution, or one."""
    wanted = name.lower().replace("_", "-")
    found = [plugin for plugin in registry.plugins if wanted in (plugin.distribution, plugin.id)]
    found = found or [plugin for plugin in registry.plugins if plugin.name == name]
    if len({plugin.distribution for plugin in found}) > 1:
        raise pytest.UsageError(f"{name!r} is a plugin of {' and of '.join(p.distribution for p in found)}; say which.")
    if not found:
        known = ", ".join(sorted({plugin.distribution for plugin in registry.plugins}))
        raise pytest.UsageError(f"No plugin {name!r} is installed; those that are come from {known}.")
    return found


def rule_of(item: pytest.Item) -> str | None:
    """``suite::rule[parameters]`` of a conformance test; None for any other test."""
    owner = item.getparent(pytest.Class)
    if owner is None or not issubclass(owner.obj, Rules):
        return None
    return f"{owner.obj.__name__}::{item.name}"


def plugins_of(item: pytest.Item) -> Sequence[PluginRecord]:
    """The plugins that a conformance test is about."""
    owner = item.getparent(pytest.Class)
    return owner.obj.plugins if owner is not None and issubclass(owner.obj, Rules) else ()


def _rules(title: str, registry: Registry, plugins: Sequence[PluginRecord]) -> type[Rules]:
    module = importlib.import_module(f"{__name__}.{title}")
    contributions = _contributions(plugins, SUITES[title])
    facts: dict[str, Any] = {
        "registry": registry,
        "plugins": plugins,
        "contributions": contributions,
        "__doc__": module.__doc__,
    }
    return type(title, (Rules,), facts | _tests(module, contributions))


def _tests(module: ModuleType, contributions: Sequence[Contribution]) -> dict[str, Any]:
    """The rules of a suite, without those that concern none of the providers."""
    rules = {name: item for name, item in vars(module).items() if name.startswith("test_") and callable(item)}
    for rule in rules.values():
        rule.only = {**getattr(module, "ONLY", {}), **getattr(rule, "only", {})}
    return {
        name: staticmethod(rule)
        for name, rule in rules.items()
        if not rule.only or any(_concerns(rule, item) for item in contributions)
    }


def _concerns(rule: Callable, item: Contribution) -> bool:
    facts: Mapping[str, Any] = getattr(rule, "only", {})
    return all(_meets(getattr(item.provider.spec, field, None), wanted) for field, wanted in facts.items())


def _meets(value: Any, wanted: Any) -> bool:
    return bool(wanted(value)) if callable(wanted) else value in (wanted if isinstance(wanted, tuple) else (wanted,))


def _contributions(plugins: Sequence[PluginRecord], kinds: Sequence[str]) -> list[Contribution]:
    return [item for plugin in plugins for item in plugin.contributions if item.provider.spec.kind in kinds]


def _parameter(item: Contribution) -> Any:
    """A provider; one that cannot be used here (its requirement is missing, say) is skipped with the reason."""
    usable = item.state is State.ACTIVE
    marks = () if usable else pytest.mark.skip(reason=f"{item.state}: {item.reason}")
    return pytest.param(item.provider, id=item.provider.spec.name, marks=marks)
