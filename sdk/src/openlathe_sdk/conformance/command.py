"""Rules for sub-commands of ``core``."""

from __future__ import annotations

import contextlib

import pytest

from openlathe.plugins.resolve import resolve
from openlathe.spi import Provider


def test_it_is_handed_the_flags_that_it_offers(provider: Provider, capsys: pytest.CaptureFixture[str]) -> None:
    """A command whose help has ``--block-plugins`` declares ``assembles``: core keeps such flags from all others."""
    with contextlib.suppress(SystemExit):
        resolve(provider)(["--help"])
    offered = "--block-plugins" in capsys.readouterr().out
    handed = provider.spec.assembles  # type: ignore[attr-defined]
    assert handed or not offered, "its help offers --block-plugins, which it never sees; declare assembles=True"
