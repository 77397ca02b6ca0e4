"""A checkout on a machine that has Python and make and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture
def checkout(repository: Path, tmp_path: Path) -> Path:
    run(tmp_path, "git", "clone", "--quiet", str(repository), "checkout")
    return tmp_path / "checkout"


@pytest.mark.long
def test_setup_and_an_installation_of_everything(checkout, members):
    ours = {member.name for member in members}
    pip = (".venv/bin/python", "-m", "pip", "--disable-pip-version-check")

    said = run(checkout, "make", "setup")
    assert re.findall(r"^\[(\d)/4\]", said, re.MULTILINE) == ["1", "2", "3", "4"]
    installed = {canonicalize_name(item["name"]) for item in json.loads(run(checkout, *pip, "list", "--format=json"))}
    pinned = re.findall(r"^(\S+)==", (checkout / "constraints.txt").read_text(), re.MULTILINE)
    assert installed - ours == {canonicalize_name(name) for name in pinned}
    assert run(checkout, *pip, "check").strip() == "No broken requirements found."
    assert run(checkout, "make", "setup") == "", "a second call starts at once"

    run(checkout, *pip, "install", "--quiet", "--no-build-isolation", ".")
    plugins = json.loads(run(checkout, ".venv/bin/core", "plugins", "list", "--json"))["plugins"]
    assert {plugin["distribution"] for plugin in plugins} == ours - {"openlathe-sdk"}
    assert {(plugin["origin"], plugin["state"]) for plugin in plugins} == {("path", "active")}
