"""``core bench``: one module for each benchmark, imported when it is asked for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module

from openlathe.api import FlagParser, parse_command, read_policy

#: Benchmark -> what the list of them says; its module is ``bench_<name>``.
BENCHMARKS = {
    "latency": "how long one batch of requests takes, offline",
    "throughput": "how many requests and tokens a second, offline",
    "serve": "a running server under load: TTFT, TPOT, ITL, throughput",
    "startup": "from the start of the process to readiness and to the first token",
    "profile": "where the time of the engine's steps goes",
}


def main(arguments: Sequence[str]) -> int:
    """``core bench`` with ``arguments``; the exit status."""
    words = read_policy(arguments)[1]
    name = next(iter(words), "--help")
    if name not in BENCHMARKS:
        parser = FlagParser(prog="core bench", description="Measure how fast it is.")
        commands = parser.add_subparsers(title="benchmarks", metavar="BENCHMARK")
        for known, summary in BENCHMARKS.items():
            commands.add_parser(known, help=summary)
        parser.parse_args([name])  # --help, or the error for one that does not exist
        return 2
    module = import_module(f".bench_{name}", __package__)
    about = BENCHMARKS[name]
    parser = FlagParser(prog=f"core bench {name}", usage=module.USAGE, description=about[0].upper() + about[1:] + ".")
    module.add_arguments(parser)
    rest = list(arguments)
    rest.remove(name)
    args: argparse.Namespace = parse_command(parser, rest)
    return int(module.run(args))
