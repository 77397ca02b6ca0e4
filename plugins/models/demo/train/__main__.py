"""``python -m plugins.models.demo.train``: tokenizer, models, adapters and evaluation, one after the other.

What is done is not done again: an interrupted run goes on where it was. ``--only`` does one part.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import stages
from .recipe import FILE, Recipe

PACKAGE = Path(__file__).parents[1] / "src" / "openlathe_plugin_demo"


def main() -> None:
    parser = argparse.ArgumentParser(prog="train", description="Trains the demonstration checkpoints.")
    parser.add_argument("--recipe", type=Path, default=FILE, help="what is trained, and for how long")
    parser.add_argument("--work", type=Path, default=stages.WORK, help="where an interrupted run goes on")
    parser.add_argument("--out", type=Path, default=PACKAGE, help="where checkpoints and adapters are written")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--eager", action="store_true", help="do not compile; slower, but needs no C++ compiler")
    parser.add_argument("--only", choices=("models", "adapters", "evaluation"), help="one part")
    parser.add_argument("--questions", type=int, default=200, help="questions of each skill in the evaluation")
    parser.add_argument(
        "--cards", action="store_true", help="write the tables into the model cards, as a whole run does"
    )
    parser.add_argument("--wrong", type=int, default=0, help="show so many wrong answers of each skill")
    arguments = parser.parse_args()
    run = stages.Run(
        Recipe.read(arguments.recipe),
        arguments.work,
        arguments.out,
        stages.device(arguments.device),
        compiled=not arguments.eager,
    )
    if arguments.only in (None, "models"):
        for name in run.recipe.models:
            run.model(name)
    if arguments.only in (None, "adapters"):
        for name in run.recipe.adapters.names:
            run.adapter(name)
    if arguments.only in (None, "evaluation"):
        tables = run.evaluation(arguments.questions, wrong=arguments.wrong)
        sys.stdout.write("\n\n".join(f"## {name}\n\n{table}" for name, table in tables.items()) + "\n")
        if arguments.cards or arguments.only is None:
            for name in run.recipe.models:
                run.card(name, tables[name])


if __name__ == "__main__":
    main()
