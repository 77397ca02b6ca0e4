"""Whether an object is what a protocol of the contract asks for, told from its signatures."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any


def missing_members(target: Any, protocol: type) -> Iterator[str]:
    """Every member of ``protocol`` that ``target`` lacks, or that cannot be called as core calls it."""
    for name, member in vars(protocol).items():
        if isinstance(member, property) and not hasattr(target, name):
            yield f"no {name}"
        if isinstance(member, classmethod):
            member = member.__func__
        if getattr(member, "__qualname__", "") != f"{protocol.__name__}.{name}":
            continue  # inherited from Protocol itself
        found = inspect.getattr_static(target, name, None)
        if found is None:
            yield f"no {name}()"
        elif not accepts(found, member):
            yield f"{name}{inspect.signature(found)} where core passes {inspect.signature(member)}"


def accepts(found: Any, wanted: Callable) -> bool:
    """Whether ``found`` can be called with every argument of ``wanted``."""
    if isinstance(found, (classmethod, staticmethod)):
        found = found.__func__
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return True  # compiled code does not always say
    parameters = inspect.signature(wanted).parameters.values()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    keywords = {p.name: None for p in parameters if p.kind is p.KEYWORD_ONLY}
    try:
        signature.bind(*positional, **keywords)
    except TypeError:
        return False
    return True
