"""The kit catches wrong plugins: every rule of its suites, by name.

The plugins of the folder ``wrong`` go through the suites in one nested run of pytest, each through the rules that are
to catch it. Parsers and chat templates have test files of their own.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from openlathe_sdk.conformance import SUITES, plugins_of, rule_of

from .wrong.catalogue import CAUGHT

HERE = Path(__file__).parent
ELSEWHERE = {"parser", "chat_template"}

#: (suite, rule, the plugin or the provider that it must catch)
Verdict = tuple[str, str, str]
VERDICTS: list[Verdict] = [
    (title, rule, wrong) for title, rules in CAUGHT.items() for rule, names in rules.items() for wrong in names
]


def test_every_wrong_plugin_is_caught(outcomes: dict[Verdict, set[str]]) -> None:
    """In one test, so that workers that share the tests out do not all make the nested run."""
    missed = [verdict for verdict in VERDICTS if "failed" not in outcomes[verdict]]
    assert not missed


@pytest.mark.parametrize("title", CAUGHT)
def test_every_rule_catches_something(title: str) -> None:
    module = importlib.import_module(f"openlathe_sdk.conformance.{title}")
    assert {name.removeprefix("test_") for name in vars(module) if name.startswith("test_")} == set(CAUGHT[title])


def test_every_suite_has_wrong_plugins() -> None:
    assert set(SUITES) == {*CAUGHT, *ELSEWHERE}


# -- the nested run -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Verdict, set[str]]]:
    """What each rule said about the plugin it is to catch."""
    installed = tmp_path_factory.mktemp("installed")
    _distribution(installed, "unbounded", licence="License-Expression: MIT\n")
    _distribution(installed, "unlicensed", licence="")
    listener = Listener()
    settings = installed / "pytest.ini"
    settings.write_text("[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider -q\n")
    collected = HERE / "wrong" / "collected.py"
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.syspath_prepend(str(installed))
        patch.syspath_prepend(str(HERE))
        code = pytest.main([str(collected), "-c", str(settings), f"--confcutdir={HERE}"], plugins=[listener])
        assert code == pytest.ExitCode.TESTS_FAILED, printed.getvalue()
        yield listener.outcomes


def _distribution(folder: Path, name: str, licence: str) -> None:
    metadata = folder / f"wrong_{name}-0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.4\nName: wrong-{name}\nVersion: 0\n{licence}")


class Listener:
    """Keeps of the nested run the rules that are to catch something, and notes what they said."""

    def __init__(self) -> None:
        self.verdicts: dict[str, Verdict] = {}
        self.outcomes: dict[Verdict, set[str]] = defaultdict(set)

    def pytest_collection_modifyitems(self, items: list[pytest.Function]) -> None:
        self.verdicts = {item.nodeid: verdict for item in items if (verdict := _verdict(item)) in VERDICTS}
        items[:] = [item for item in items if item.nodeid in self.verdicts]

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if "failed" in self.outcomes[self.verdicts[item.nodeid]]:
            pytest.skip("once caught is enough")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.outcomes[self.verdicts[report.nodeid]].add(report.outcome)


def _verdict(item: pytest.Function) -> Verdict:
    title, _, rule = (rule_of(item) or "").partition("::")
    wrong = plugins_of(item)[0].name if title == "plugin" else item.callspec.params["provider"].spec.name
    return title, rule.partition("[")[0].removeprefix("test_"), wrong
