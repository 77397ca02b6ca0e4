"""Plots, where matplotlib is installed: it comes with the extra ``plot`` alone, being larger than all the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from openlathe.spi import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SUFFIXES = (".svg", ".png")
_INCHES = 3.2


def check_plot(path: Path | None) -> None:
    """Raises ``ConfigError``, before anything is measured, where there will be no plot."""
    if path is None:
        return
    if path.suffix not in _SUFFIXES:
        raise ConfigError(f"--plot is {path}; give a name that ends with {' or '.join(_SUFFIXES)}.")
    if find_spec("matplotlib") is None:
        raise ConfigError('--plot needs matplotlib; `pip install "openlathe-plugin-bench[plot]"` brings it.')


def plot_shares(path: Path, panels: Mapping[str, Sequence[float]], unit: str) -> None:
    """A panel for each title: how large a share of the measurements is at most so long."""
    filled = {title: sorted(values) for title, values in panels.items() if values}
    figure = _figure(max(len(filled), 1))
    for axes, (title, values) in zip(figure.axes, filled.items(), strict=False):
        shares = [(place + 1) / len(values) for place in range(len(values))]
        axes.step([values[0], *values], [0.0, *shares], where="post")
        axes.set(title=title, xlabel=unit, ylabel="share", ylim=(0, 1.02))
        axes.grid(alpha=0.3)
    _save(figure, path)


def plot_bars(path: Path, panels: Mapping[str, Mapping[str, float]], unit: str) -> None:
    """A panel for each title: one bar for each name, the first on top."""
    figure = _figure(len(panels))
    for axes, (title, bars) in zip(figure.axes, panels.items(), strict=True):
        axes.barh(list(bars), list(bars.values()))
        axes.invert_yaxis()
        axes.set(title=title, xlabel=unit)
        axes.grid(alpha=0.3, axis="x")
    _save(figure, path)


def _figure(panels: int) -> Figure:
    """Made without pyplot, which would look for a screen."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_INCHES * 1.3 * panels, _INCHES), layout="constrained")
    figure.subplots(1, panels, squeeze=False)
    return figure


def _save(figure: Figure, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.") from None
