"""The immutable result of assembly: every plugin with its state, every provider, and the one conflict rule."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pluggy

from ..spi.errors import AmbiguousProvider, OpenlatheError, PluginError, ProviderNotFound
from ..spi.protocols import Provider
from ..spi.specs import KINDS
from .discover import Candidate, normalise
from .policy import Policy


class State(StrEnum):
    """What became of a plugin, or of one of its specs."""

    ACTIVE = "active"
    DISABLED = "disabled"
    INCOMPATIBLE = "incompatible"
    UNAVAILABLE = "unavailable"
    BROKEN = "broken"


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """One spec of one plugin; only those that are ``active`` can be chosen, ``reason`` says why others cannot."""

    provider: Provider
    state: State = State.ACTIVE
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class PluginRecord(Candidate):
    """One entry point and what became of it.

    Attributes:
        hooks: names of the hooks it implements, sorted.
        reason: one line where ``state`` is not ``active``; ``traceback`` the rest of the story.
        import_ms: time its import took; ``heavy`` the heavy modules that the import brought in.
    """

    state: State = State.ACTIVE
    reason: str = ""
    traceback: str = ""
    hooks: tuple[str, ...] = ()
    contributions: tuple[Contribution, ...] = ()
    import_ms: float = 0.0
    heavy: tuple[str, ...] = ()


@dataclass(frozen=True)
class Registry:
    """What is installed, as this process sees it. ``hooks`` is the pluggy manager that holds the active plugins."""

    plugins: tuple[PluginRecord, ...]
    hooks: pluggy.PluginManager
    policy: Policy = field(default_factory=Policy)

    def contributions(self, kind: str | None = None) -> list[Contribution]:
        """Everything that loaded plugins contribute, in whatever state, by kind, name and distribution."""
        kinds = list(KINDS) if kind is None else [kind]

        def place(item: Contribution) -> tuple[int, str, str]:
            spec = item.provider.spec
            return kinds.index(spec.kind), spec.name, item.provider.distribution

        found = [item for plugin in self.plugins for item in plugin.contributions]
        return sorted((item for item in found if item.provider.spec.kind in kinds), key=place)

    def providers(self, kind: str) -> list[Provider]:
        """The providers of ``kind`` that can be used, by name and distribution."""
        return [item.provider for item in self.contributions(kind) if item.state is State.ACTIVE]

    def get(self, kind: str, name: str) -> Provider:
        """The provider that ``name`` or ``distribution/name`` means.

        Raises ``ProviderNotFound`` (with a guess at what was meant, or with why the provider cannot be used) and
        ``AmbiguousProvider`` (with the line that chooses).
        """
        named = [item for item in self.contributions(kind) if _answers_to(item.provider, name)]
        able = [item.provider for item in named if item.state is State.ACTIVE]
        if len(able) > 1:
            preferred = self.preferred(kind, able)
            if len(preferred) != 1:
                raise AmbiguousProvider(ambiguity(kind, name, able), kind=kind, name=name)
            able = preferred
        if able:
            return able[0]
        if named:
            item = named[0]
            raise ProviderNotFound(
                f"The {kind} {name!r} of {described(item.provider)} is {item.state}: {item.reason}.",
                kind=kind,
                name=name,
                distribution=item.provider.distribution,
            )
        raise ProviderNotFound(self._not_found(kind, name), kind=kind, name=name)

    def preferred(self, kind: str, providers: Sequence[Provider]) -> list[Provider]:
        """Of several providers of one name those that the operator prefers; all where no preference is stated."""
        for name in (name for provider in providers for name in names_of(provider)):
            distribution = self.policy.prefer.get(f"{kind}.{name}")
            chosen = [provider for provider in providers if provider.distribution == distribution]
            if chosen:
                return chosen
        return list(providers)

    def ambiguous(self) -> list[tuple[str, str, list[Provider]]]:
        """(kind, name, providers) of every name that would be an error if it were asked for."""
        table: dict[tuple[str, str], list[Provider]] = {}
        for kind in KINDS:
            for provider in self.providers(kind):
                for name in names_of(provider):
                    table.setdefault((kind, name), []).append(provider)
        return [(kind, name, able) for (kind, name), able in table.items() if len(self.preferred(kind, able)) > 1]

    def problems(self) -> list[str]:
        """One sentence for everything that `core plugins check` objects to."""
        found = [f"{plugin.id} is {plugin.state}: {plugin.reason}." for plugin in self.plugins if _faulty(plugin.state)]
        for plugin in self.plugins:
            for item in plugin.contributions:
                if _faulty(item.state) and plugin.state is State.ACTIVE:
                    spec = item.provider.spec
                    found.append(f"{spec.kind} {spec.name!r} of {plugin.id} is {item.state}: {item.reason}.")
            if plugin.heavy:
                found.append(
                    f"{plugin.id} imports {', '.join(plugin.heavy)} to register; its targets are the place for it."
                )
        found += [ambiguity(kind, name, providers) for kind, name, providers in self.ambiguous()]
        return found + self._missing()

    def ensure_required(self) -> None:
        """Raises ``PluginError`` where a distribution that the operator requires has no active plugin."""
        if missing := self._missing():
            raise PluginError(missing[0])

    def ask(self, hook: str, **values: Any) -> list[tuple[str, Any]]:
        """(plugin, answer) of every active plugin that implements ``hook``; whoever raises is named in the error."""
        answers = []
        implementations = getattr(self.hooks.hook, hook).get_hookimpls()
        for implementation in sorted(implementations, key=lambda item: str(item.plugin_name)):
            try:
                answers.append((str(implementation.plugin_name), _invoke(implementation, values)))
            except OpenlatheError:
                raise
            except Exception as error:
                raise PluginError(f"{hook} of the plugin {implementation.plugin_name} failed: {error}.") from error
        return answers

    def _missing(self) -> list[str]:
        active = {plugin.distribution for plugin in self.plugins if plugin.state is State.ACTIVE}
        states = {plugin.distribution: f"{plugin.state}: {plugin.reason}" for plugin in self.plugins}
        return [
            f"{name} is required and {states.get(name, 'not installed')}."
            for name in self.policy.require
            if name not in active
        ]

    def _not_found(self, kind: str, name: str) -> str:
        known = sorted({known for provider in self.providers(kind) for known in names_of(provider)})
        guess = difflib.get_close_matches(name, known, n=1)
        if guess:
            return f"No installed plugin provides the {kind} {name!r}; did you mean {guess[0]!r}?"
        return f"No installed plugin provides the {kind} {name!r}; installed: {', '.join(known) or 'none'}."


def names_of(provider: Provider) -> tuple[str, ...]:
    return (provider.spec.name, *provider.spec.aliases)


def described(provider: Provider) -> str:
    return f"{provider.distribution} {provider.version}"


def ambiguity(kind: str, name: str, providers: Sequence[Provider]) -> str:
    """One sentence that names all providers of a name and the line that chooses."""
    first = providers[0]
    short = name.rpartition("/")[2]
    listed = " and ".join(f"{described(provider)} ({provider.plugin})" for provider in providers)
    if len({provider.distribution for provider in providers}) == 1:
        return f"The {kind} {short!r} is provided twice, by {listed}; block one with --block-plugins {first.plugin}."
    return (
        f"The {kind} {short!r} is provided by {listed}; choose with --prefer {kind}.{short}={first.distribution} "
        f"or ask for {first.distribution}/{short}."
    )


def _invoke(implementation: pluggy.HookImpl, values: Mapping[str, Any]) -> Any:
    """Hooks grow by arguments: an implementation is handed those that it declares."""
    return implementation.function(*(values[name] for name in implementation.argnames))


def _answers_to(provider: Provider, name: str) -> bool:
    distribution, slash, short = name.rpartition("/")
    if slash and normalise(distribution) != provider.distribution:
        return False
    return short in names_of(provider)


def _faulty(state: State) -> bool:
    return state in (State.INCOMPATIBLE, State.UNAVAILABLE, State.BROKEN)
