"""Throw-away distributions: real packages with real metadata, on the path of one test only."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openlathe.plugins.assemble import assemble
from openlathe.plugins.policy import Policy
from openlathe.plugins.registry import Registry

_numbers = itertools.count()
PARSER = 'ToolParserSpec(name="{name}", target="nowhere.at_all:Parser")'
HEADER = "from openlathe.spi import *\n\n"


class Site:
    """A folder on sys.path that distributions are put into, as an installer lays them out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.distributions: list[str] = []

    def add(
        self,
        distribution: str,
        source: str,
        *,
        version: str = "1.0",
        entry_points: dict[str, str] | None = None,
        group: str = "openlathe.v1",
        requires: tuple[str, ...] = (),
        direct_url: dict | None = None,
    ) -> str:
        """Installs a package whose module ``plugin`` has this source; returns the package's name."""
        package = f"throwaway_{next(_numbers)}"
        (self.folder / package).mkdir()
        (self.folder / package / "__init__.py").touch()
        (self.folder / package / "plugin.py").write_text(HEADER + source)
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        lines = [f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}"]
        (info / "METADATA").write_text("\n".join(lines + [f"Requires-Dist: {item}" for item in requires]) + "\n")
        points = entry_points or {"plugin": "{package}.plugin"}
        listed = "".join(f"{name} = {value.format(package=package)}\n" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[{group}]\n{listed}")
        files = [
            f"{package}/__init__.py",
            f"{package}/plugin.py",
            f"{info.name}/METADATA",
            f"{info.name}/entry_points.txt",
        ]
        (info / "RECORD").write_text("".join(f"{name},,\n" for name in files))
        if direct_url is not None:
            (info / "direct_url.json").write_text(json.dumps(direct_url))
        self.distributions.append(distribution)
        importlib.invalidate_caches()
        return package

    def add_specs(self, distribution: str, hook: str, *specs: str, **kwargs: object) -> str:
        """A plugin with one registration hook that yields these specs."""
        body = "".join(f"    yield {spec}\n" for spec in specs)
        return self.add(distribution, f"@hookimpl\ndef {hook}():\n{body}", **kwargs)  # type: ignore[arg-type]

    def add_parser(self, distribution: str, name: str = "acme", **kwargs: object) -> str:
        return self.add_specs(distribution, "openlathe_tool_parsers", PARSER.format(name=name), **kwargs)

    def assemble(self, **policy: object) -> Registry:
        """Core and what this site holds; what happens to be installed besides stays out."""
        return assemble(Policy(**{"allow": frozenset(self.distributions), **policy}))  # type: ignore[arg-type]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield Site(folder)
    for name in [name for name in sys.modules if name.startswith("throwaway_")]:
        del sys.modules[name]


@pytest.fixture
def plugin() -> Callable[..., object]:
    """Looks up a plugin's record by distribution."""

    def find(registry: Registry, distribution: str) -> object:
        (record,) = [record for record in registry.plugins if record.distribution == distribution]
        return record

    return find
