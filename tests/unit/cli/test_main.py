"""The tree of sub-commands: core's own, those of plugins, errors and exit statuses."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from openlathe.cli import text
from openlathe.cli.main import COMMANDS, main

COMMAND = """
from openlathe.spi import CommandSpec, hookimpl

@hookimpl
def openlathe_commands():
    yield CommandSpec(name={name!r}, target="throwaway_command:run", summary="do what Acme does")

def run(arguments):
    print(arguments)
    return 7
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs a plugin with one sub-command."""

    def install(name: str) -> None:
        (tmp_path / "throwaway_command.py").write_text(COMMAND.format(name=name))
        info = tmp_path / "throwaway_command-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: throwaway-command\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("[openlathe.v1]\nx = throwaway_command\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()

    yield install
    sys.modules.pop("throwaway_command", None)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"openlathe-core {importlib.metadata.version('openlathe-core')}\n"


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(capsys, argv):
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(capsys, name):
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert f"core {name}" in capsys.readouterr().out


def test_an_unknown_command(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["srve"])
    assert caught.value.code == 2
    assert "invalid choice: 'srve'" in capsys.readouterr().err


def test_a_plugins_command_is_listed_and_run_with_its_own_arguments(command, capsys):
    command("throwaway")
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "do what Acme does" in capsys.readouterr().out
    assert main(["--plugins", "throwaway-command", "throwaway", "--x", "1", "--", "--plugins", "y"]) == 7
    assert capsys.readouterr().out == "['--x', '1', '--', '--plugins', 'y']\n"


def test_core_keeps_its_own_names_and_check_says_so(command, capsys):
    command("plan")
    assert main(["plugins", "check"]) == 1
    assert "command 'plan' of throwaway-command:x is hidden by core's own" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["plan", "--block-plugins", "openlathe-plugin-demo"], 2, "No model was given: name"),
        (["plan", "/nowhere"], 1, "/nowhere does not exist"),
        (["plan", "M", "--enable-lora"], 2, "--enable-lora asks for LoRA"),
        (["plan", "M", "--dtype", "int3"], 2, "--dtype is 'int3'"),
        (["plugins", "show", "nope"], 1, "No plugin 'nope' is installed"),
        (["plugins", "list", "--prefer", "x"], 2, "--prefer x is not understood"),
    ],
)
def test_errors_are_one_sentence_on_stderr(capsys, argv, status, words):
    assert main(argv) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_the_files_section_decides_what_loads(tmp_path, capsys):
    file = tmp_path / "x.yaml"
    file.write_text("plugins: {allow: []}\n")
    assert main(["plugins", "list", "--json", "--config", str(file)]) == 0
    plugins = json.loads(capsys.readouterr().out)["plugins"]
    assert {plugin["plugin"] for plugin in plugins if plugin["state"] == "active"} == {"core"}


def test_python_m_openlathe_is_the_same():
    done = subprocess.run([sys.executable, "-m", "openlathe", "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("openlathe-core ")


def test_a_reader_that_leaves_early_is_no_error():
    line = f"{sys.executable} -m openlathe plugins list --json | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("{\n", "")


# -- text ---------------------------------------------------------------------------------------------------------


def test_a_table_wraps_its_last_column(monkeypatch):
    monkeypatch.setattr(text, "width", lambda: 40)
    shown = text.table(("A", "B"), [("one", "many words that do not fit in one line of it"), ("three", "x")])
    assert shown.splitlines() == [
        "A      B",
        "one    many words that do not fit in one",
        "       line of it",
        "three  x",
    ]


@pytest.mark.parametrize(("number", "shown"), [(0, "0 B"), (1023, "1023 B"), (114688, "112 KiB"), (4 << 30, "4 GiB")])
def test_sizes(number, shown):
    assert text.size(number) == shown
