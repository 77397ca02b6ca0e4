"""Targets that lack something."""

from __future__ import annotations

from collections.abc import Sequence

from openlathe.api import FlagParser, parse_command


class HalfAMethod:
    """A linear method that cannot pack, and whose ``load`` takes no shards."""

    def create(self, layer, prefix, in_features, out_features, bias): ...

    def load(self, layer, name, tensor): ...

    def apply(self, layer, x): ...


def offers_plugins(arguments: Sequence[str]) -> int:
    """A command that reads the flags of an engine, and whose spec does not say so."""
    parse_command(FlagParser(prog="core deaf"), arguments)
    return 0
