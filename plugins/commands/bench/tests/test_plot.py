"""Plots, and their refusal where matplotlib is missing."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from openlathe_plugin_bench import plot

from openlathe.spi import ConfigError


def test_shares_as_svg(tmp_path: Path) -> None:
    path = tmp_path / "below" / "shares.svg"
    plot.check_plot(path)
    plot.plot_shares(path, {"TTFT": [3.0, 1.0, 2.0], "empty": []}, "ms")
    assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_bars_as_png(tmp_path: Path) -> None:
    path = tmp_path / "bars.png"
    plot.plot_bars(path, {"prefill": {"forward": 2.0}, "decode": {"forward": 1.0, "sample": 0.5}}, "ms")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_no_plot_is_asked_for() -> None:
    plot.check_plot(None)


def test_another_format() -> None:
    with pytest.raises(ConfigError, match=r"ends with \.svg or \.png"):
        plot.check_plot(Path("plot.gif"))


def test_matplotlib_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"openlathe-plugin-bench\[plot\]"):
        plot.check_plot(Path("plot.svg"))
