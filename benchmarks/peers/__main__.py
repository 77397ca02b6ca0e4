"""``python -m benchmarks.peers``: the engine against other engines on this machine, in interleaved rounds."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from . import install
from .plot import plot
from .results import Results
from .rows import ROWS
from .runner import PYTHONS, plan, run
from .table import table

IDLE = 0.5


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C: whatever is resident is stopped first
    args = arguments()
    match args.command:
        case "install":
            install.install(args.names)
        case "build":
            build(args.names)
        case "run":
            return measure(args)
        case "table":
            print(table(Results.load(args.results)), end="")
        case "plot":
            args.svg.write_text(plot(Results.load(args.results)))
    return 0


def build(names: list[str]) -> None:
    from . import convert  # torch and transformers, which only this command needs

    for model in convert.WEIGHTS:
        convert.build(model, names)


def measure(args: argparse.Namespace) -> int:
    if os.getloadavg()[0] > IDLE:
        print(f"Something else is running: the load average is {os.getloadavg()[0]:.1f}.", file=sys.stderr)
    results = Results.load(args.into)
    stays = plan([row for row in ROWS.values() if row.name in args.rows], args.engines, args.all)
    problems = run(results, stays, args.rounds)
    print("\n" + table(results), end="")
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def peer(name: str) -> str:
    if name not in install.PARTS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(install.PARTS)}")
    return name


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, does in (
        ("install", "install peers, each into an environment of its own"),
        ("build", "make checkpoints"),
    ):
        command = commands.add_parser(name, help=does)
        command.add_argument("names", nargs="*", type=peer, default=list(install.PARTS), help="peers; default: all")
    command = commands.add_parser("run", help="measure, and keep the figures")
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    command.add_argument("--engines", nargs="+", choices=PYTHONS, default=list(PYTHONS), help="who takes part")
    command.add_argument("--all", action="store_true", help="also engines that nothing is claimed against")
    command.add_argument("--into", type=Path, required=True, help="JSON file; what it has is not measured again")
    command = commands.add_parser("table", help="print the figures as Markdown")
    command.add_argument("results", type=Path)
    command = commands.add_parser("plot", help="draw the ratios")
    command.add_argument("results", type=Path)
    command.add_argument("svg", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
