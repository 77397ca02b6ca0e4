"""The probe sees what importing a module does."""

from __future__ import annotations

from pathlib import Path

import pytest

from openlathe_sdk.inspection.probe import probe

EFFECTS = {
    "nothing": ("VALUE = 1", None),
    "environment": ("import os; os.environ['A_STRANGE_NAME'] = '1'", "changes the environment"),
    "folder": ("import os; os.chdir('/')", "changes the working folder"),
    "logging": ("import logging; logging.basicConfig()", "changes the root logger"),
    "threads": (
        "import threading, time; threading.Thread(target=time.sleep, args=(5,), daemon=True).start()",
        "changes the running threads",
    ),
    "signals": ("import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN)", "changes signal handlers"),
    "path": ("import sys; sys.path.append('/elsewhere')", "changes the module search path"),
    "warnings": ("import warnings; warnings.simplefilter('ignore')", "changes warning filters"),
    "hook": ("import sys; sys.excepthook = print", "changes the exception hook"),
    "print": ("print('hello')", "prints to standard output"),
}


@pytest.mark.parametrize("name", EFFECTS)
def test_an_effect_is_seen(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, effect = EFFECTS[name]
    (tmp_path / f"module_with_{name}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert probe(f"module_with_{name}")["effects"] == ([effect] if effect else [])


def test_imports_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module_with_imports.py").write_text("import colorsys")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {"colorsys", "module_with_imports"} <= set(probe("module_with_imports")["imported"])


def test_a_module_that_fails_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module_that_fails.py").write_text("raise LookupError('of all things')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert probe("module_that_fails")["effects"] == ["importing fails: LookupError: of all things"]
