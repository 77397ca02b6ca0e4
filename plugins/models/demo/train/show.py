"""``python -m plugins.models.demo.train.show``: conversations as the model reads them, of the corpus or held out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from importlib import resources

from openlathe.frontend.render import ChatRenderer

from .corpus.book import HELD_OUT, LEARNT, Book
from .corpus.conversation import texts
from .corpus.stream import SKILLS, converse
from .stages import TEMPLATE


def shown(book: Book, skills: Sequence[str], count: int) -> Iterator[str]:
    """``count`` conversations of each skill, in the model's own format."""
    package, path = TEMPLATE
    renderer = ChatRenderer((resources.files(package) / path).read_text(encoding="utf-8"), {})
    for number in range(count):
        for skill in skills:
            for parts in texts(converse(skill, f"shown/{number}", book), renderer):
                yield "".join(text for text, _ in parts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="show", description="Conversations as the model reads them.")
    parser.add_argument("skills", nargs="*", help=f"of {', '.join(SKILLS)}; all of them, if none is named")
    parser.add_argument("--held-out", action="store_true", help="those of the evaluation's book")
    parser.add_argument("--count", type=int, default=1, help="of each skill")
    arguments = parser.parse_args()
    if unknown := set(arguments.skills) - set(SKILLS):
        parser.error(f"there is no skill {', '.join(sorted(unknown))}; choose from {', '.join(SKILLS)}")
    book = HELD_OUT if arguments.held_out else LEARNT
    sys.stdout.writelines(f"{text}\n" for text in shown(book, arguments.skills or list(SKILLS), arguments.count))


if __name__ == "__main__":
    main()
