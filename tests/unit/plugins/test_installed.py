"""Throw-away distributions that pip builds and installs for real, seen through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "{version}"
dependencies = {dependencies}

[project.entry-points."{group}"]
{entry_point} = "{package}.plugin"

[tool.hatch.build.targets.wheel]
packages = ["{package}"]
"""
PARSER = """
from openlathe.spi import ToolParserSpec, hookimpl

@hookimpl
def openlathe_tool_parsers():
    yield ToolParserSpec(name="{name}", target="{target}", requires={requires}, install_hint="get it from Acme")
"""
SAME = "acme"  # the entry-point name that several of them claim


def parser(name: str, target: str = "json:loads", requires: tuple[str, ...] = ()) -> str:
    return PARSER.format(name=name, target=target, requires=requires)


#: Distribution -> the source of its plugin, and what its project says differently.
DISTRIBUTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "throwaway-same-one": (parser("one"), {"entry_point": SAME}),
    "throwaway-same-two": (parser("two"), {"entry_point": SAME}),
    "throwaway-import-fails": ("raise ImportError('libacme.so is missing')", {}),
    "throwaway-hook-raises": (parser("never").replace("    yield", "    1 / 0\n    yield"), {}),
    "throwaway-misspelt": (parser("never").replace("tool_parsers", "tool_parser"), {}),
    "throwaway-other-major": ("raise SystemExit('imported')", {"group": "openlathe.v2"}),
    "throwaway-future-core": ("raise SystemExit('imported')", {"dependencies": '["openlathe-core>=7,<8"]'}),
    "throwaway-clash-one": (parser("clash"), {}),
    "throwaway-clash-two": (parser("clash"), {"version": "2.5"}),
    "throwaway-unavailable": (parser("scarce", requires=("acme-accelerator>=3",)), {}),
    "throwaway-class-target": (parser("never").replace('target="json:loads"', "target=dict"), {}),
}


def write_project(folder: Path, name: str, source: str, **settings: str) -> Path:
    package = name.replace("-", "_")
    values = {"version": "1.0", "dependencies": "[]", "group": "openlathe.v1", "entry_point": name, **settings}
    (folder / package).mkdir(parents=True)
    (folder / "pyproject.toml").write_text(PROJECT.format(name=name, package=package, **values))
    (folder / package / "__init__.py").touch()
    (folder / package / "plugin.py").write_text(source)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("throwaway")
    projects = [
        write_project(root / name, name, source, **settings) for name, (source, settings) in DISTRIBUTIONS.items()
    ]
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(root / "site")]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *map(str, projects)], check=True)
    return root / "site"


def core(site: Path, *args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run([sys.executable, "-m", "openlathe", *args], env=env, cwd=cwd, capture_output=True, text=True)


@pytest.fixture(scope="module")
def listed(site: Path) -> dict:
    done = core(site, "plugins", "list", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def plugins(listed: dict) -> dict[str, dict]:
    return {plugin["distribution"]: plugin for plugin in listed["plugins"]}


def test_the_list_is_an_api(listed):
    assert listed["schema"] == 1
    assert listed["core"]
    assert {plugin["distribution"] for plugin in listed["plugins"]} >= DISTRIBUTIONS.keys()


def test_one_entry_point_name_twice_is_no_clash(plugins):
    for name, provides in (("throwaway-same-one", "one"), ("throwaway-same-two", "two")):
        assert plugins[name]["plugin"] == SAME
        assert plugins[name]["state"] == "active"
        assert [spec["name"] for spec in plugins[name]["provides"]] == [provides]


@pytest.mark.parametrize(
    ("distribution", "state", "reason"),
    [
        ("throwaway-import-fails", "broken", "its import failed with ImportError: libacme.so is missing"),
        ("throwaway-hook-raises", "broken", "openlathe_tool_parsers failed with ZeroDivisionError: division by zero"),
        ("throwaway-misspelt", "broken", "openlathe_tool_parser is no hook; did you mean openlathe_tool_parsers?"),
        ("throwaway-class-target", "broken", "pass 'package.module:attribute' as a string"),
        ("throwaway-other-major", "incompatible", "it is written for openlathe.v2"),
        ("throwaway-future-core", "incompatible", "openlathe-core<8,>=7 is required and 0.1.0 is installed"),
        ("throwaway-unavailable", "unavailable", "acme-accelerator>=3 is not installed; get it from Acme"),
    ],
)
def test_each_fault_is_reported_as_what_it_is(plugins, distribution, state, reason):
    assert plugins[distribution]["state"] == state
    assert reason in plugins[distribution]["reason"]


def test_none_of_them_disturbs_the_rest(plugins):
    assert plugins["openlathe-core"]["state"] == "active"
    assert plugins["openlathe-plugin-qwen3"]["state"] == "active"
    assert plugins["throwaway-clash-one"]["state"] == "active"


def test_two_providers_of_one_name(site, listed):
    named = {
        "kind": "tool-parser",
        "name": "clash",
        "providers": ["throwaway-clash-one/clash", "throwaway-clash-two/clash"],
    }
    assert listed["ambiguous"] == [named]
    why = core(site, "plugins", "why", "tool-parser", "clash")
    assert why.returncode == 1
    for word in (
        "throwaway-clash-one 1.0",
        "throwaway-clash-two 2.5",
        "--prefer tool-parser.clash=throwaway-clash-one",
    ):
        assert word in " ".join(why.stdout.split())
    why = core(site, "plugins", "why", "tool-parser", "clash", "--prefer", "tool-parser.clash=throwaway-clash-two")
    assert why.returncode == 0
    assert "throwaway-clash-two/clash 2.5, preferred" in why.stdout


def test_check_objects_to_all_of_it(site):
    done = core(site, "plugins", "check")
    assert done.returncode == 1
    faulty = DISTRIBUTIONS.keys() - {"throwaway-same-one", "throwaway-same-two"}
    assert all(name in done.stderr for name in faulty)
    assert "throwaway-same" not in done.stderr


def test_show_tells_where_it_broke(site):
    done = core(site, "plugins", "show", "throwaway-import-fails")
    assert done.returncode == 0
    assert "broken" in done.stdout
    assert 'plugin.py", line 1' in done.stdout


def test_a_lock_is_kept_to(site, tmp_path):
    allowed = "--plugins=throwaway-same-one,throwaway-same-two"
    assert core(site, "plugins", "lock", "x.lock", allowed, cwd=tmp_path).returncode == 0
    locked = json.loads((tmp_path / "x.lock").read_text())["distributions"]
    assert list(locked) == ["openlathe-core", "throwaway-same-one", "throwaway-same-two"]
    assert core(site, "plugins", "list", allowed, "--locked", "x.lock", cwd=tmp_path).returncode == 0
    done = core(site, "serve", "M", "--port", "0", "--plugins=throwaway-same-one", "--locked", "x.lock", cwd=tmp_path)
    assert done.returncode == 1
    assert "throwaway-same-two 1.0 is in the lock file and would not be loaded" in done.stderr
