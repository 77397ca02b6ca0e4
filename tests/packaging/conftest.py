"""Wheels as users get them, and environments that hold nothing but what a test installs."""

from __future__ import annotations

import socket
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Member:
    """One distribution of the workspace: its folder and its pyproject.toml."""

    folder: Path
    pyproject: dict[str, Any]

    @property
    def name(self) -> str:
        return self.pyproject["project"]["name"]

    @property
    def package(self) -> Path:
        (only,) = (self.folder / "src").iterdir()
        return only


@dataclass(frozen=True)
class Environment:
    """A virtual environment outside the repository."""

    folder: Path
    wheels: Path
    constraints: Path

    def pip(self, *args: str) -> str:
        done = self.run("python", "-m", "pip", "--disable-pip-version-check", *args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self, *names: str) -> None:
        """What the README tells users, with versions held to those the repository is tested with."""
        self.pip("install", "--constraint", str(self.constraints), "--find-links", str(self.wheels), *names)

    def run(self, command: str, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs one of the environment's own commands, in its folder so that the repository is not on the path."""
        return subprocess.run(
            [self.folder / "bin" / command, *args], cwd=self.folder, capture_output=True, text=True, **options
        )


@pytest.fixture(scope="session")
def members(repository: Path) -> list[Member]:
    plugins = sorted(path.parent for path in repository.glob("plugins/**/pyproject.toml"))
    folders = [repository / "core", repository / "sdk", *plugins]
    return [Member(folder, tomllib.loads((folder / "pyproject.toml").read_text())) for folder in folders]


@pytest.fixture(scope="session")
def wheels(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make wheels` filled."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(["make", "wheels", f"DIST={folder}"], cwd=repository, check=True, capture_output=True)
    return folder


@pytest.fixture
def environment(repository: Path, wheels: Path, tmp_path: Path) -> Environment:
    """An empty virtual environment."""
    folder = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return Environment(folder, wheels, repository / "constraints.txt")


@pytest.fixture
def free_port() -> int:
    """A port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
