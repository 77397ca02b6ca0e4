"""From an import string to the object it names: the one place where the code of a chosen provider is imported."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from ..spi.errors import OpenlatheError, PluginError
from ..spi.protocols import Provider
from ..spi.specs import KINDS, _ResourceSpec


def resolve(provider: Provider) -> Any:
    """The provider's target: an object, or the path of a resource. ``PluginError`` says whose fault a failure is."""
    spec = provider.spec
    return resolve_target(spec.kind, spec.name, provider.distribution, provider.version, spec.target)


def resolve_target(kind: str, name: str, distribution: str, version: str, target: str) -> Any:
    try:
        return resource(target) if issubclass(KINDS[kind], _ResourceSpec) else load(target)
    except OpenlatheError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"The {kind} {name!r} of {distribution} {version} cannot be loaded from {target}: "
            f"{type(error).__name__}: {error}.",
            kind=kind,
            name=name,
            distribution=distribution,
        ) from error


def load(target: str) -> Any:
    """Imports ``"package.module:attribute"``."""
    module, _, attribute = target.partition(":")
    found: Any = importlib.import_module(module)
    for name in attribute.split("."):
        found = getattr(found, name)
    return found


def resource(target: str) -> Path:
    """The path of ``"package:path/inside/it"``; raises ``FileNotFoundError`` where nothing is there."""
    package, _, inside = target.partition(":")
    folder = Path(importlib.import_module(package).__path__[0])
    path = folder / inside
    if not path.exists():
        raise FileNotFoundError(f"{inside} is not in {package}")
    return path
