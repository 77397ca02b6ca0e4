"""The commands of the Makefile that cost nothing to try."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest


def make(repository: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *args], cwd=repository, capture_output=True, text=True)


def test_help_lists_every_target(repository):
    phony = re.search(r"^\.PHONY: (.*)$", (repository / "Makefile").read_text(), re.MULTILINE)
    shown = re.findall(r"^  make ([a-z-]+) ", make(repository, "help").stdout, re.MULTILINE)
    assert sorted(shown) == sorted(phony[1].split())
    assert make(repository).stdout == make(repository, "help").stdout


def test_setup_runs_again_only_where_a_version_or_a_member_changed(repository, tmp_path):
    question = ("--question", f"VENV={tmp_path}", f"{tmp_path}/.ready")
    for stamp in (".pinned", ".ready"):
        (tmp_path / stamp).touch()
    assert make(repository, *question).returncode == 0
    for changed in ("constraints.txt", "plugins/models/qwen3/pyproject.toml"):
        assert make(repository, *question, "--what-if", changed).returncode == 1


@pytest.mark.parametrize("python", ["false", "no-such-python"])
def test_a_python_too_old_is_one_sentence(repository, tmp_path, python):
    done = make(repository, "setup", f"VENV={tmp_path}/venv", f"PYTHON={python}")
    first, *rest = done.stderr.splitlines()
    assert first == (
        f"openlathe needs Python 3.11 or newer and '{python}' is not: name one, as in 'make setup PYTHON=python3.12'."
    )
    assert all(line.startswith("make: ***") for line in rest)
    assert not (tmp_path / "venv").exists()


def test_serve_without_a_model_is_one_sentence(repository):
    done = make(repository, "serve")
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == "Say which model, as in 'make serve MODEL=Qwen/Qwen3-0.6B'."


def test_continuous_integration_runs_the_test_command_of_the_readme(repository):
    script = repository / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().splitlines()[-1] == "exec make test"
    assert re.search(r"^make test$", (repository / "README.md").read_text(), re.MULTILINE)
