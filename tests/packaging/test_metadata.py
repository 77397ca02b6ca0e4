"""What the index and pip read about each distribution, and what `make setup` pins."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

OURS = ">=0.1,<0.2"
TORCH = ">=2.11,<2.14"


@pytest.fixture(scope="module")
def pins(repository: Path) -> dict[str, str]:
    lines = (repository / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def requirements(project: dict) -> list[Requirement]:
    extras = project.get("optional-dependencies", {}).values()
    return [Requirement(text) for group in (project["dependencies"], *extras) for text in group]


def test_every_distribution_describes_itself(members):
    for member in members:
        project = member.pyproject["project"]
        assert re.fullmatch(r"openlathe-(core|sdk|plugin-[a-z0-9-]+)", member.name)
        assert project["license"] == "Apache-2.0"
        assert "Apache License" in (member.folder / "LICENSE").read_text()
        assert member.name in (member.folder / project["readme"]).read_text()
        assert project["requires-python"] == ">=3.11"
        assert "Typing :: Typed" in project["classifiers"]
        assert (member.package / "py.typed").is_file()


def test_plugins_are_laid_out_as_promised(members):
    for member in members:
        if not member.name.startswith("openlathe-plugin-"):
            continue
        package = member.name.replace("-", "_")
        assert member.package.name == package
        assert (member.package / "__init__.py").read_text() == "", f"{package}/__init__.py must be empty"
        for target in member.pyproject["project"]["entry-points"]["openlathe.v1"].values():
            assert target == f"{package}.plugin"
            assert (member.package / "plugin.py").is_file()


def test_ranges_between_our_own_distributions(members):
    names = {member.name for member in members}
    for member in members:
        for requirement in requirements(member.pyproject["project"]):
            if requirement.name.startswith("openlathe-"):
                assert requirement.name in names
                assert requirement.specifier == SpecifierSet(OURS), f"{member.name}: {requirement}"


def test_torch_comes_with_one_extra_of_core_alone(members):
    for member in members:
        project = member.pyproject["project"]
        assert not any(Requirement(text).name == "torch" for text in project["dependencies"]), member.name
        found = [requirement for requirement in requirements(project) if requirement.name == "torch"]
        if member.name == "openlathe-core":
            assert [requirement.specifier for requirement in found] == [SpecifierSet(TORCH)]
        else:
            assert not found, f"{member.name} must ask for openlathe-core[engine] instead"


def test_the_workspace_brings_every_member_from_its_folder(members, repository):
    """What `pip install .` will be told, asked of the build backend."""
    command = [Path(sys.executable).with_name("hatchling"), "metadata", "dependencies"]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    assert sorted(json.loads(done.stdout)) == sorted(f"{m.name} @ {m.folder.as_uri()}" for m in members)


def test_every_requirement_is_pinned_to_a_version_it_allows(members, pins):
    for member in members:
        for requirement in requirements(member.pyproject["project"]):
            if not requirement.name.startswith("openlathe-"):
                pin = pins.get(canonicalize_name(requirement.name))
                assert pin, f"constraints.txt does not pin {requirement.name}, which {member.name} requires"
                assert requirement.specifier.contains(pin), f"{member.name}: {requirement} refuses the pinned {pin}"


def test_pins_hold_in_this_environment(pins):
    for distribution in metadata.distributions():
        pin = pins.get(canonicalize_name(distribution.metadata["Name"]))
        if pin is not None:
            assert distribution.version.split("+")[0] == pin, distribution.metadata["Name"]


def test_nothing_is_pinned_that_nothing_asks_for(members, repository, pins):
    """The closure over the installed metadata: a pin outside it is a leftover."""
    groups = tomllib.loads((repository / "pyproject.toml").read_text())["dependency-groups"]
    wanted = [Requirement(text) for text in groups["dev"]] + [Requirement("pip")]
    for member in members:
        wanted += requirements(member.pyproject["project"])
    needed: set[str] = set()
    asked: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in asked:
            continue
        asked.add((name, frozenset(requirement.extras)))
        needed.add(name)
        for text in metadata.requires(name) or ():
            child = Requirement(text)
            extras = {"", *requirement.extras}
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras):
                wanted.append(child)
    assert set(pins) - needed == set()
