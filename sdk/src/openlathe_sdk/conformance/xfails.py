"""Failures that an author knows of, each with its reason; a file of them beside the tests.

::

    # pattern of suite::rule          why
    attention::test_decode[acme-*]    page sizes above 64 come with the next release
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from . import rule_of


def mark_xfails(file: Path, items: Sequence[pytest.Item]) -> None:
    """Expects the rules that ``file`` names to fail; one that passes fails the run, so that the list only shrinks.

    Raises ``pytest.UsageError`` for a line without a reason and for one that names no rule that was collected.
    """
    rules = {name: item for item in items if (name := rule_of(item))}
    for number, pattern, reason in _lines(file):
        matching = [item for name, item in rules.items() if _matches(name, pattern)]
        if not reason:
            raise pytest.UsageError(f"{file}:{number} names {pattern} and no reason; say why it fails.")
        if not matching:
            raise pytest.UsageError(f"{file}:{number} names {pattern}, which is no rule of these plugins; remove it.")
        for item in matching:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))


def _lines(file: Path) -> list[tuple[int, str, str]]:
    found = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip() and not line.startswith("#"):
            pattern, _, reason = line.strip().partition(" ")
            found.append((number, pattern, reason.strip()))
    return found


def _matches(name: str, pattern: str) -> bool:
    """``*`` and ``?`` stand for anything; brackets are the parameters' own."""
    return fnmatchcase(name, pattern.replace("[", "[[]"))
