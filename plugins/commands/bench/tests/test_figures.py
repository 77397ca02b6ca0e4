"""Percentiles, means and the table, compared with numpy."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openlathe_plugin_bench.figures import deviation, mean, percent, percentile
from openlathe_plugin_bench.report import aligned, show, write_json

from openlathe.spi import ConfigError

NUMBERS = st.lists(st.floats(0, 1e6), min_size=1, max_size=30)


@given(values=NUMBERS, share=st.floats(0, 100))
def test_percentiles_are_those_of_numpy(values: list[float], share: float) -> None:
    assert percentile(values, share) == pytest.approx(np.percentile(values, share), rel=1e-9, abs=1e-9)


@given(values=NUMBERS)
def test_mean_and_deviation_are_those_of_numpy(values: list[float]) -> None:
    assert mean(values) == pytest.approx(np.mean(values), rel=1e-9)
    assert deviation(values) == pytest.approx(np.std(values), rel=1e-6, abs=1e-6)


def test_nothing_measured_is_zero() -> None:
    assert mean([]) == deviation([]) == 0.0


@pytest.mark.parametrize("share, name", [(99.0, "99"), (99.9, "99.9"), (50, "50")])
def test_names_of_percentiles(share: float, name: str) -> None:
    assert percent(share) == name


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    show("Result", ["Part", ("Requests:", 3), ("Mean TTFT (ms):", 12.345)])
    assert capsys.readouterr().out.splitlines() == [
        "===================== Result =====================",
        "-----------------------Part-----------------------",
        "Requests:                                3         ",
        "Mean TTFT (ms):                          12.35     ",
        "=" * 50,
    ]


def test_columns_of_numbers_lie_to_the_right() -> None:
    text = aligned(["name", "ms", "why"], [["a", "1.5", "short"], ["longer", "10.25", "because"]])
    assert text.splitlines() == ["name       ms  why", "a         1.5  short", "longer  10.25  because"]


def test_json_is_written_or_added_to(tmp_path: Path) -> None:
    path = tmp_path / "new" / "figures.json"
    write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}
    path.unlink()
    for value in (1, 2):
        write_json(path, {"a": value}, append=True)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"a": 1}, {"a": 2}]
    with pytest.raises(ConfigError, match="cannot be written"):
        write_json(path / "below", {})
