"""The result of a conformance run as a small JSON file, which an author ships with the plugin."""

from __future__ import annotations

import json
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from . import plugins_of, rule_of

PROPERTY = "openlathe-conformance"
OUTCOMES = ("passed", "failed", "skipped", "xfailed")


class Report:
    """Counts outcomes by suite while pytest runs, then writes them."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.counts: dict[str, Counter[str]] = {}
        self.failures: list[str] = []
        self.plugins: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Any:
        """Notes on the report whose rule it is about, so that the note travels from a worker process too."""
        report: pytest.TestReport = yield
        rule = rule_of(item)
        if rule and (report.when == "call" or report.outcome != "passed"):
            report.user_properties.append((PROPERTY, [rule, sorted(plugin.id for plugin in plugins_of(item))]))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == PROPERTY and isinstance(value, list):
                rule, plugins = value
                self._count(rule, "xfailed" if report.skipped and hasattr(report, "wasxfail") else report.outcome)
                self.plugins.update(plugins)

    def _count(self, rule: str, outcome: str) -> None:
        self.counts.setdefault(rule.partition("::")[0], Counter())[outcome] += 1
        if outcome == "failed":
            self.failures.append(rule)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput"):
            return
        self.file.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")

    def to_dict(self) -> dict[str, Any]:
        return {
            "kit": metadata.version("openlathe-sdk"),
            "core": metadata.version("openlathe-core"),
            "plugins": sorted(self.plugins),
            "tier": self.tier(),
            "suites": {
                suite: {outcome: count[outcome] for outcome in OUTCOMES} for suite, count in sorted(self.counts.items())
            },
            "failures": sorted(self.failures),
        }

    def tier(self) -> str:
        """``bronze``: the rules for every plugin hold; ``silver``: all that apply; ``none``: not even the first."""
        unmet = {suite for suite, count in self.counts.items() if count["failed"] or count["xfailed"]}
        if not self.counts or "plugin" in unmet:
            return "none"
        return "bronze" if unmet else "silver"
