"""Lets `pip install .` bring every distribution of this repository, each from its own folder."""

import tomllib
from pathlib import Path

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Members(MetadataHookInterface):
    def update(self, metadata: dict) -> None:
        root = Path(self.root)
        projects = [root / "core/pyproject.toml", root / "sdk/pyproject.toml", *root.glob("plugins/**/pyproject.toml")]
        names = {tomllib.loads(path.read_text())["project"]["name"]: path.parent.as_uri() for path in projects}
        metadata["dependencies"] = [f"{name} @ {uri}" for name, uri in sorted(names.items())]
