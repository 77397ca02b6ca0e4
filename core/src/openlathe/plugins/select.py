"""Choosing one provider for one slot of the assembly, and remembering why each other candidate was refused.

One procedure for all kinds. A name that was asked for must be able; otherwise those that refuse are set aside, the
policy hook is asked, and the highest priority wins. A tie is an error that names both: nothing is ever chosen by the
order in which packages happen to be found.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..spi.errors import AmbiguousProvider, ConfigError, PluginError
from ..spi.kv import FullKV
from ..spi.protocols import Provider
from ..spi.queries import AttentionQuery, GenericQuery, KernelQuery, ModelQuery, Query
from ..spi.specs import AttentionBackendSpec, KernelSpec, ModelSpec, QuantizationSpec, Spec
from .options import options_of
from .registry import Contribution, Registry, State, described
from .resolve import load


class Tied(AmbiguousProvider):
    """Several candidates can serve with the same priority."""


#: Operators that a KV dtype concerns.
OVER_PAGES = frozenset({"write_kv", "attend"})


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A candidate that was not chosen, and why, as clauses for people."""

    provider: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One slot of the assembly, filled: ``model``, ``attention.0``, ``kernel.rms_norm``, ``tool-parser``, ...

    ``options`` are the provider's options with their values, ``facts`` what else of its spec the engine goes by;
    ``reason`` is a clause such as "highest priority".
    """

    slot: str
    kind: str
    name: str
    distribution: str
    version: str
    target: str
    reason: str
    options: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    refused: tuple[Refused, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Slot:
    """A place to fill. ``flag`` is what an operator types to fill it by hand; ``candidates`` narrows the kind down."""

    name: str
    kind: str
    query: Query
    flag: str
    candidates: Callable[[Spec], bool] = lambda spec: True


class Selector:
    """Fills slots from one registry, with the options that the configuration gives to plugins."""

    def __init__(self, registry: Registry, options: Mapping[str, str]) -> None:
        self._registry = registry
        self._options = options

    def named(self, slot: Slot, name: str, reason: str) -> Choice:
        """The provider that was asked for by name; raises ``PluginError`` with its reasons where it cannot serve."""
        provider = self._registry.get(slot.kind, name)
        if not slot.candidates(provider.spec):
            raise ConfigError(f"{slot.flag} {name}: the {slot.kind} {name!r} is of no use for {slot.name}.")
        if reasons := refusals(provider, slot.query):
            raise PluginError(
                f"The {slot.kind} {name!r} of {described(provider)} cannot be used for {slot.name}: "
                f"{'; '.join(reasons)}.",
                kind=slot.kind,
                name=name,
                distribution=provider.distribution,
            )
        able, refused = self.sift(slot)
        others = [_passed_over(other, "it could, but another was named") for other in able if other != provider]
        return self._choice(slot, provider, reason, [*refused, *others])

    def required(self, slot: Slot) -> Choice:
        """The best provider that does not refuse; raises ``PluginError`` with everybody's reasons."""
        choice = self.automatic(slot)
        if choice is None:
            raise PluginError(
                f"No installed {slot.kind} can serve {slot.name}{self.because(slot)}.", kind=slot.kind, name=slot.name
            )
        return choice

    def because(self, slot: Slot) -> str:
        """Why nobody can: a clause that continues a sentence."""
        _, refused = self.sift(slot)
        told = [f"{item.provider} ({', '.join(item.reasons)})" for item in refused]
        return f"; refused: {', '.join(told)}" if told else "; none is installed"

    def automatic(self, slot: Slot) -> Choice | None:
        """The best provider that does not refuse, or None where there is none."""
        able, refused = self.sift(slot)
        if not able:
            return None
        chosen, reason = self._by_hook(slot, able) or self._by_priority(slot, able)
        others = [
            _passed_over(other, f"it could, with priority {other.spec.priority}") for other in able if other != chosen
        ]
        return self._choice(slot, chosen, reason, [*refused, *others])

    def sift(self, slot: Slot) -> tuple[list[Provider], list[Refused]]:
        """Candidates that can serve, and the others with their reasons."""
        able, refused = [], []
        for item in self._registry.contributions(slot.kind):
            if not slot.candidates(item.provider.spec):
                continue
            if reasons := self._reasons(item, slot.query):
                refused.append(Refused(provider=item.provider.qualified_name, reasons=reasons))
            else:
                able.append(item.provider)
        return able, refused

    def _reasons(self, item: Contribution, query: Query) -> tuple[str, ...]:
        if item.state is not State.ACTIVE:
            return (f"{item.state}: {item.reason}",)
        provider = item.provider
        namesakes = [
            other for other in self._registry.providers(provider.spec.kind) if other.spec.name == provider.spec.name
        ]
        if provider not in self._registry.preferred(provider.spec.kind, namesakes):
            return (f"another distribution is preferred for the name {provider.spec.name!r}",)
        return refusals(provider, query)

    def _by_hook(self, slot: Slot, able: Sequence[Provider]) -> tuple[Provider, str] | None:
        """What plugins answer to ``openlathe_select_provider``; different answers are an error naming both."""
        answers = {
            plugin: answer
            for plugin, answer in self._registry.ask(
                "openlathe_select_provider", kind=slot.kind, query=slot.query, candidates=tuple(able)
            )
            if answer is not None
        }
        if not answers:
            return None
        if len(set(answers.values())) > 1:
            told = " and ".join(f"{plugin} says {answer!r}" for plugin, answer in answers.items())
            raise AmbiguousProvider(f"For {slot.name} {told}; choose with {slot.flag}.", kind=slot.kind)
        plugin, answer = next(iter(answers.items()))
        chosen = [provider for provider in able if answer in (provider.spec.name, provider.qualified_name)]
        if len(chosen) != 1:
            names = ", ".join(provider.qualified_name for provider in able)
            raise PluginError(f"For {slot.name} {plugin} chooses {answer!r}, not one of {names}.", kind=slot.kind)
        return chosen[0], f"chosen by {plugin}"

    def _by_priority(self, slot: Slot, able: Sequence[Provider]) -> tuple[Provider, str]:
        highest = max(provider.spec.priority for provider in able)
        best = [provider for provider in able if provider.spec.priority == highest]
        if len(best) > 1:
            names = " and ".join(provider.qualified_name for provider in best)
            raise Tied(
                f"For {slot.name} {names} are equally good (priority {highest}); choose with {slot.flag}.",
                kind=slot.kind,
            )
        return best[0], "the only candidate that can" if len(able) == 1 else f"highest priority ({highest})"

    def _choice(self, slot: Slot, provider: Provider, reason: str, refused: Sequence[Refused]) -> Choice:
        return Choice(
            slot=slot.name,
            kind=slot.kind,
            name=provider.spec.name,
            distribution=provider.distribution,
            version=provider.version,
            target=provider.spec.target,
            reason=reason,
            options=options_of(provider, self._options),
            refused=tuple(refused),
        )


def _passed_over(provider: Provider, reason: str) -> Refused:
    return Refused(provider=provider.qualified_name, reasons=(reason,))


# -- refusals -----------------------------------------------------------------------------------------------------


def refusals(provider: Provider, query: Query) -> tuple[str, ...]:
    """Why this provider cannot serve the query: first what its spec declares, then what its own function answers."""
    spec = provider.spec
    reasons: list[str] = []
    if isinstance(spec, AttentionBackendSpec) and isinstance(query, AttentionQuery):
        reasons = _device_reasons(spec, query) + _cache_reasons(spec, query)
    elif isinstance(spec, KernelSpec) and isinstance(query, KernelQuery):
        reasons = _device_reasons(spec, query)
        if spec.operator in OVER_PAGES:
            reasons += _one_of("KV dtype", query.kv_dtype, spec.kv_dtypes)
    elif isinstance(spec, ModelSpec) and isinstance(query, ModelQuery) and spec.own_layers:
        reasons = _batch_reasons(False, query.batch_invariant)
        if query.quantization:
            reasons.append(f"its layers take no weights quantised with {query.quantization!r}")
    elif isinstance(spec, QuantizationSpec) and isinstance(query, GenericQuery):
        reasons = _one_of("device", query.device.type, spec.devices)
        invariant = spec.batch_invariant or spec.unpacks  # nothing of a batch is there when files are read
        reasons += _batch_reasons(invariant, bool(query.facts.get("batch_invariant")))
    if not reasons and spec.refuse is not None:
        reasons = _own_reasons(provider, query)
    return tuple(reasons)


def _device_reasons(spec: AttentionBackendSpec | KernelSpec, query: AttentionQuery | KernelQuery) -> list[str]:
    reasons = _one_of("device", query.device.type, spec.devices) + _one_of("dtype", query.dtype, spec.dtypes)
    reasons += [f"{feature} is needed and not offered" for feature in sorted(query.features - spec.features)]
    return reasons + _batch_reasons(spec.batch_invariant, query.batch_invariant)


def _batch_reasons(declared: bool, needed: bool) -> list[str]:
    return ["its results depend on the batch"] if needed and not declared else []


def _cache_reasons(spec: AttentionBackendSpec, query: AttentionQuery) -> list[str]:
    reasons = _one_of("KV dtype", query.kv_dtype, spec.kv_dtypes)
    reasons += _one_of("KV spec", type(query.kv).__name__, spec.kv)
    if isinstance(query.kv, FullKV):
        for dim in sorted({query.kv.dim_k, query.kv.dim_v}):
            reasons += _one_of("head size", dim, spec.head_dims)
    if query.block_size % spec.block_size_multiple:
        reasons.append(f"block size {query.block_size} is not a multiple of {spec.block_size_multiple}")
    return reasons


def _one_of(what: str, value: Any, served: Sequence[Any]) -> list[str]:
    """An empty tuple means "any"."""
    if not served or value in served:
        return []
    return [f"{what} {value} is not among {', '.join(map(str, served))}"]


def _own_reasons(provider: Provider, query: Query) -> list[str]:
    """A refusal that raises is a refusal: a faulty candidate must not stop others from being chosen."""
    try:
        return [str(reason) for reason in load(str(provider.spec.refuse))(query)]
    except Exception as error:
        return [f"its refusal function failed with {type(error).__name__}: {error}"]
