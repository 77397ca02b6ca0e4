"""The documentation is true: references are current, links lead somewhere, commands exist, examples run.

A fence's language says how its content is checked:

- ``sh``: commands a reader types; targets of make, sub-commands and flags must exist, and ``curl`` lines are run.
- ``console``: commands behind ``$ ``, run in order in one folder; what they print must be what the page shows, where
  a line ``...`` stands for any number of lines.
- ``title=FILE`` behind the language: the content is written to that file of the folder first.
- ``python`` without a title: run as a program; a following ``output`` fence holds what it prints.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import httpx
import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODEL = "Qwen/Qwen3-0.6B"
ADDRESS = "localhost:8000"


@dataclass(frozen=True)
class Block:
    """One fence: its language, the file it names and its content."""

    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    fences = re.findall(r"^```(\w+)(?: title=(\S+))?\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [Block(*fence) for fence in fences]


def commands(page: Path) -> list[str]:
    """Every command of the page's ``sh`` and ``console`` fences, continuation lines joined, comments left out."""
    found = []
    for block in blocks(page):
        lines = block.text.replace("\\\n", " ").splitlines()
        if block.language == "console":
            found += [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        elif block.language == "sh":
            found += [line for line in lines if line and not line.startswith("#")]
    return found


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def command(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


# -- references, links --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "scripts")
        yield importlib.import_module("reference")


def test_reference_pages_are_what_the_code_says(reference):
    pages = reference.pages()
    written = {str(path.relative_to(reference.FOLDER)) for path in reference.FOLDER.rglob("*") if path.is_file()}
    assert written == set(pages), "run `make docs`, and remove what it no longer writes"
    for name, text in pages.items():
        assert (reference.FOLDER / name).read_text() == text, f"docs/reference/{name} is stale; run `make docs`"


def test_every_hook_kind_and_setting_is_in_the_reference(reference):
    """Not only equal to what the script writes: the script leaves nothing out."""
    from openlathe.config import EngineConfig, ServerConfig
    from openlathe.spi import KINDS, hookspecs
    from openlathe_sdk.conformance import SUITES

    pages = reference.pages()
    for name in (name for name in vars(hookspecs) if name.startswith("openlathe_")):
        assert f"### {name}\n" in pages["hooks.md"]
    for kind, spec in KINDS.items():
        assert f"## {kind}\n\n`{spec.__name__}`" in pages["specs.md"]
    for suite in SUITES:
        assert f"## {suite}\n" in pages["conformance.md"]
    for name in (*EngineConfig.__dataclass_fields__, *ServerConfig.__dataclass_fields__):
        assert f"`--{name.replace('_', '-')}`" in pages["settings.md"]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page_id(page)} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
            slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
            assert anchor in slugs, f"{page_id(page)} links to {target}"


# -- commands -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_targets_of_make_exist(page):
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    for line in commands(page):
        words = shlex.split(line, comments=True)
        if words[0] == "make":
            assert words[1] in targets, line


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_subcommands_and_flags_exist(page):
    for line in commands(page):
        words = shlex.split(line, comments=True)
        if words[0] not in ("core", "serve"):
            continue
        depth = next((i for i, word in enumerate(words) if i and not re.fullmatch("[a-z]+", word)), len(words))
        path = words[:depth] if words[0] == "core" else ["serve"]
        known = help_of(*path[: 3 if path[1:2] in (["plugins"], ["bench"]) else 2])
        for flag in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert flag in known, f"{line}: {flag}"


def help_of(*path: str) -> set[str]:
    done = subprocess.run([command(path[0]), *path[1:], "--help"], capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(path)} --help: {done.stderr}"
    return set(re.findall(r"--[a-z][a-z-]*", done.stdout))


def test_every_route_is_on_the_operating_page():
    from openlathe.server.admin import ADMIN_ROUTES, SLEEP_ROUTES
    from openlathe.server.app import ROUTES

    page = (ROOT / "docs" / "operating" / "README.md").read_text()
    shown = set(re.findall(r"`(?:GET|POST) ([^`]+)`", page))
    assert shown == {path.replace(":path", "") for path, _, _ in (*ROUTES, *SLEEP_ROUTES, *ADMIN_ROUTES)}


def test_every_policy_flag_is_on_the_operating_page():
    from openlathe.plugins.policy import add_policy_flags

    parser = argparse.ArgumentParser(add_help=False)
    add_policy_flags(parser)
    page = (ROOT / "docs" / "operating" / "README.md").read_text()
    for flag in re.findall(r"--[a-z-]+", parser.format_help()):
        assert f"`{flag}" in page, flag


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_distributions_that_pip_is_told_to_install_are_ours(page):
    ours = {tomllib.loads(path.read_text())["project"]["name"] for path in ROOT.glob("*/pyproject.toml")}
    ours |= {tomllib.loads(path.read_text())["project"]["name"] for path in ROOT.glob("plugins/**/pyproject.toml")}
    for line in commands(page):
        if line.startswith("pip install"):
            words = (word.partition("[")[0] for word in shlex.split(line, comments=True))
            assert {word for word in words if word.startswith("openlathe-")} <= ours, line


def test_every_family_is_on_the_front_page():
    """With the package that brings it, and in the table of packages to install."""
    from openlathe.plugins.assemble import assemble

    page = (ROOT / "README.md").read_text()
    for provider in assemble().providers("model"):
        assert f"`{provider.distribution}`" in page, provider.distribution


# -- examples -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``host:port`` of `serve` as the README starts it: with the demonstration model."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log"
    args = [command("serve"), "--port", str(port), "--kv-cache-memory-bytes", "64M"]
    with log.open("w") as stream:
        process = subprocess.Popen(args, stdout=stream, stderr=stream)
    try:
        address = f"127.0.0.1:{port}"
        wait_until_healthy(address, process, log)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def wait_until_healthy(address: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            httpx.get(f"http://{address}/health", timeout=1).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.1)
    pytest.fail(f"not healthy after a minute:\n{log.read_text()}")


def examples(language: str) -> Iterator[object]:
    for page in PAGES:
        if "reference" in page.parts:
            continue  # made from docstrings: excerpts of plugins, not programs
        found = blocks(page)
        for index, block in enumerate(found):
            if block.language == language and not block.title:
                after = found[index + 1] if index + 1 < len(found) else None
                output = after.text if after and after.language == "output" else None
                yield pytest.param(block.text, output, id=f"{page_id(page)}-{index}")


@pytest.mark.parametrize(("program", "output"), list(examples("python")))
def test_programs_run_and_print_what_the_page_shows(program, output, server, scripted_checkpoint, tmp_path):
    text = program.replace(ADDRESS, server).replace(MODEL, str(scripted_checkpoint))
    file = tmp_path / "example.py"
    file.write_text(text)
    done = subprocess.run([sys.executable, file], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if output is not None:
        assert_shown(done.stdout, output)


@pytest.mark.parametrize("page", [page for page in PAGES if "curl " in page.read_text()], ids=page_id)
def test_curl_lines_are_answered(page, server):
    for line in commands(page):
        if line.startswith("curl "):
            asked = line.replace(ADDRESS, server).replace("curl ", "curl --fail ", 1)
            done = subprocess.run(asked, shell=True, capture_output=True, text=True)
            assert done.returncode == 0, f"{line}\n{done.stderr}"


@pytest.mark.parametrize(
    "page", [p for p in PAGES if any(b.title or b.language == "console" for b in blocks(p))], ids=page_id
)
def test_walkthroughs_print_what_the_page_shows(page, scripted_checkpoint, tmp_path):
    """Files are written and commands run in the order of the page, in an environment that may be installed into."""
    folder = tmp_path / "folder"
    folder.mkdir()
    environ = throwaway_environment(tmp_path / "env")
    if any(MODEL in block.text for block in blocks(page) if block.title or block.language == "console"):
        (folder / MODEL).parent.mkdir(parents=True)
        (folder / MODEL).symlink_to(scripted_checkpoint)
    for block in blocks(page):
        if block.title:
            (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.title).write_text(block.text)
        elif block.language == "console":
            for line, expected in steps(block.text):
                done = subprocess.run(
                    line,
                    shell=True,
                    cwd=folder,
                    env=environ,
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                )
                assert done.returncode == 0, f"`{line}` failed:\n{done.stdout}"
                assert_shown(done.stdout, expected, line)


def steps(text: str) -> Iterator[tuple[str, str]]:
    for step in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, expected = step.partition("\n")
        yield line, expected


def assert_shown(printed: str, shown: str, line: str = "") -> None:
    """``shown`` line by line; ``...`` alone matches any lines, inside a line any characters."""
    pattern = "".join(
        r"(?:.*\n)*?" if text == "..." else ".*?".join(map(re.escape, text.split("..."))) + r"[ ]*\n"
        for text in (line.rstrip() for line in shown.splitlines())
    )
    printed = printed.rstrip() + "\n" if shown else printed
    assert re.fullmatch(pattern, printed), f"`{line}` printed\n{printed}\nwhere the page shows\n{shown}"


def throwaway_environment(folder: Path) -> dict[str, str]:
    """A virtual environment that sees everything installed here and keeps to itself what is installed into it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (here,) = (path for path in sys.path if path.startswith(sys.prefix) and path.endswith("site-packages"))
    (inside,) = folder.glob("lib/python*/site-packages")
    (inside / "parent.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    for name in ("core", "serve", "pip", "pytest"):
        script = Path(command(name)).read_text().splitlines(keepends=True)
        target = folder / "bin" / name
        target.write_text("".join([f"#!{folder}/bin/python\n", *script[1:]]))
        target.chmod(0o755)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_INDEX": "1"}
