"""The results as Markdown: what was wanted, what is reached, and every engine's figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .results import BANDWIDTH, MACHINE, Ratio, Results, Spread, ratio, share_of_bandwidth
from .rows import ROWS, Row

FIGURES = {"value": "", "ttft_ms": ": time to first token", "itl_ms": ": time between tokens"}


def table(results: Results) -> str:
    parts = [header(results), claims(results), figures(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def header(results: Results) -> str:
    """The runs that figures are from: date, machine, versions; and the bandwidth that they found."""
    used = sorted({figure["run"] for figure in results.figures})
    lines = []
    for index in used:
        run = results.runs[index]
        machine = f"{run['cpu']}, {run['threads']} threads, {run['memory_gb']} GB, Python {run['python']}"
        versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
        lines.append(f"{run['date']}: {machine}; {versions}.")
    read = results.of(BANDWIDTH, MACHINE)
    if read:
        lines.append(f"Reading 1 GiB at the start of each round: {between(Spread.of(read.values()))} GB/s.")
    return "\n\n".join(lines)


def claims(results: Results) -> str:
    """One line for each thing that is wanted, with the median of the ratios and their spread over the rounds."""
    lines = [line for row in ROWS.values() for line in claims_of(results, row)]
    return markdown(("row", "against", "ratio, lowest to highest", "rounds", "wanted", "reached"), lines)


def claims_of(results: Results, row: Row) -> Iterator[tuple[str, ...]]:
    for claim in row.claims:
        found = ratio(results, row, claim.against, claim.figure)
        if found is not None:
            yield judged(row.title + FIGURES[claim.figure], str(claim.against), found, claim.ratio)
    if row.of_bandwidth is not None:
        found = share_of_bandwidth(results, row)
        if found is not None:
            yield judged(row.title, "read bandwidth", found, row.of_bandwidth)
    ours = results.of(row.name, str(row.ours))
    if row.at_most is not None and ours:
        spread = Spread.of(ours.values())
        verdict = "yes" if spread.median <= row.at_most else "no"
        yield row.title, "itself", f"{between(spread)} {row.unit}", str(len(ours)), f"at most {row.at_most:g}", verdict


def judged(title: str, against: str, found: Ratio, wanted: float) -> tuple[str, ...]:
    mark = "" if found.pairs else " (not interleaved)"
    verdict = "yes" if found.spread.median >= wanted else "no"
    return title, against, between(found.spread) + mark, str(found.pairs), f"{wanted:g}", verdict


def figures(results: Results) -> str:
    """Medians of every engine in every row; CPU time is user and system, of all threads, for each token."""
    lines = []
    for row in ROWS.values():
        for variant in results.variants(row.name):
            values = Spread.of(results.of(row.name, variant).values())
            cpu = results.of(row.name, variant, "cpu")
            spent = f"{1e3 * Spread.of(cpu.values()).median:.2f}" if cpu else ""
            lines.append((row.title, variant, f"{between(values)} {row.unit}", spent, extras(results, row, variant)))
    return markdown(("row", "engine", "median, lowest to highest", "CPU ms a token", "also"), lines)


def extras(results: Results, row: Row, variant: str) -> str:
    named = {"tokens_per_second": "tok/s", "ttft_ms": "ms to first token", "itl_ms": "ms between tokens", "ms": "ms"}
    found = {unit: results.of(row.name, variant, figure) for figure, unit in named.items()}
    return ", ".join(f"{number(Spread.of(values.values()).median)} {unit}" for unit, values in found.items() if values)


def between(spread: Spread) -> str:
    return f"{number(spread.median)} ({number(spread.least)} to {number(spread.most)})"


def number(value: float) -> str:
    """Three digits or so: more is noise."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def markdown(columns: tuple[str, ...], lines: Iterable[tuple[str, ...]]) -> str:
    rows = [columns, ("---",) * len(columns), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) if len(rows) > 2 else ""
