"""Prompts to measure with: random ones of exact length, conversations of ShareGPT, lines of JSON."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from openlathe.api import Tokenizer
from openlathe.spi import ConfigError

from .flags import at_least

NAMES = ("random", "sharegpt", "custom")
#: As vLLM's benchmarks leave out conversations: too short to tell anything, too long for many models.
_SHORTEST = 4
_LONGEST_PROMPT = 1024
_LONGEST_CONVERSATION = 2048
#: Attempts to find a text of exactly as many tokens as wanted.
_ATTEMPTS = 8


@dataclass(frozen=True)
class Sample:
    """One request: its prompt as ids and as the text that is tokenised to them, and how many tokens to generate."""

    token_ids: list[int]
    text: str
    output_len: int

    @property
    def prompt_len(self) -> int:
        return len(self.token_ids)


def add_arguments(parser: Any, *, num_prompts: int, random_lengths: tuple[int, int], dataset: str = "random") -> None:
    group = parser.add_argument_group("prompts")
    whole, length = at_least(1), at_least(0)
    group.add_argument(
        "--dataset-name", default=dataset, choices=NAMES, metavar="{" + ",".join(NAMES) + "}", help=f"[{dataset}]"
    )
    group.add_argument("--dataset-path", type=Path, metavar="FILE", help="of sharegpt (JSON) or custom (JSON lines)")
    group.add_argument("--num-prompts", type=whole, default=num_prompts, metavar="N", help=f"[{num_prompts}]")
    group.add_argument("--input-len", type=whole, metavar="N", help="the same as --random-input-len")
    group.add_argument("--output-len", type=whole, metavar="N", help="tokens to generate, for any data set")
    random_input, random_output = random_lengths
    group.add_argument(
        "--random-input-len", type=whole, default=random_input, metavar="N", help=f"behind the prefix [{random_input}]"
    )
    group.add_argument("--random-output-len", type=whole, default=random_output, metavar="N", help=f"[{random_output}]")
    group.add_argument(
        "--random-range-ratio",
        type=at_least(0, float),
        default=0.0,
        metavar="X",
        help="lengths are drawn from (1 - X) to (1 + X) times those above [0]",
    )
    group.add_argument(
        "--random-prefix-len", "--prefix-len", type=length, default=0, metavar="N", help="shared by all prompts [0]"
    )
    group.add_argument("--sharegpt-output-len", type=whole, metavar="N", help="default: what was answered there")
    group.add_argument(
        "--custom-output-len", type=whole, default=256, metavar="N", help="where a line has no output_tokens [256]"
    )
    group.add_argument("--no-oversample", action="store_true", help="fewer prompts where the file has fewer")
    group.add_argument("--disable-shuffle", action="store_true", help="in the order of the file")


def load_samples(args: Any, tokenizer: Tokenizer, seed: int, *, more: int = 0) -> list[Sample]:
    """``args.num_prompts`` samples of the chosen data set and ``more`` behind them; equal for an equal seed.

    There are fewer where a file has fewer and --no-oversample was given. Raises ``ConfigError``.
    """
    count = args.num_prompts + more
    drawn = random.Random(seed)
    if args.dataset_name == "random":
        if args.dataset_path is not None:
            raise ConfigError("--dataset-path needs --dataset-name sharegpt or custom; random prompts have no file.")
        lengths = (args.input_len or args.random_input_len, args.output_len or args.random_output_len)
        return random_samples(
            tokenizer, drawn, count, *lengths, ratio=args.random_range_ratio, prefix=args.random_prefix_len
        )
    if args.dataset_path is None:
        raise ConfigError(f"--dataset-name {args.dataset_name} needs --dataset-path; say where the file lies.")
    if args.dataset_name == "sharegpt":
        wanted = args.output_len or args.sharegpt_output_len
        found = list(_sharegpt(_read_json(args.dataset_path), tokenizer, wanted))
    else:
        lines = _read_lines(args.dataset_path)
        found = list(_custom(lines, args.dataset_path, tokenizer, args.output_len, args.custom_output_len))
    if not found:
        raise ConfigError(f"{args.dataset_path} has no prompt that can be used; see the README for what is left out.")
    if not args.disable_shuffle:
        drawn.shuffle(found)
    return list(islice(found if args.no_oversample else cycle(found), count))


# -- random -------------------------------------------------------------------------------------------------------


def random_samples(
    tokenizer: Tokenizer,
    drawn: random.Random,
    count: int,
    input_len: int,
    output_len: int,
    *,
    ratio: float = 0.0,
    prefix: int = 0,
) -> list[Sample]:
    """Texts of random words that are tokenised to exactly as many ids as were drawn, a common prefix included."""
    if ratio >= 1:
        raise ConfigError(f"--random-range-ratio is {ratio}; give a number from 0 to below 1.")
    words = _words(tokenizer)
    common = drawn.choices(words, k=prefix)
    samples = []
    for _ in range(count):
        lengths = [
            drawn.randint(math.floor(n * (1 - ratio)), math.ceil(n * (1 + ratio))) for n in (input_len, output_len)
        ]
        ids, text = _exact(tokenizer, drawn, words, common, prefix + max(lengths[0], 1))
        samples.append(Sample(ids, text, max(lengths[1], 1)))
    return samples


def _words(tokenizer: Tokenizer) -> list[int]:
    """Ids that are whole words behind a space, which keep to themselves when their text is tokenised again."""
    known = [id for id in range(tokenizer.vocab_size) if id not in tokenizer.added_tokens]
    spelt = {id: tokenizer.token_text(id) for id in known}
    whole = [id for id, text in spelt.items() if text[:1] == " " and text[1:].isalpha() and text.isascii()]
    return whole or [id for id, text in spelt.items() if text.isascii() and text.isalpha()] or known


def _exact(
    tokenizer: Tokenizer, drawn: random.Random, words: Sequence[int], common: Sequence[int], length: int
) -> tuple[list[int], str]:
    """Ids and a text of ``length`` tokens as the tokenizer counts them, special ones that it adds included.

    Where two words merge, as they rarely do, words are added or taken away until the count is right.
    """
    added = len(tokenizer.encode(""))
    own = drawn.choices(words, k=max(length - len(common) - added, 0))
    text, ids = "", list[int]()
    for _ in range(_ATTEMPTS):
        text = tokenizer.decode([*common, *own])
        ids = tokenizer.encode(text)
        if len(ids) == length:
            break
        own = own[: length - len(ids)] if len(ids) > length else own + drawn.choices(words, k=length - len(ids))
    return ids, text


def random_ids(drawn: random.Random, vocab_size: int, length: int) -> list[int]:
    """Ids of the whole vocabulary, for an engine that is given ids."""
    return drawn.choices(range(vocab_size), k=length)


# -- files --------------------------------------------------------------------------------------------------------


def _sharegpt(conversations: Any, tokenizer: Tokenizer, output_len: int | None) -> Iterator[Sample]:
    """The first two turns of each conversation: a prompt, and an answer whose length is what to generate."""
    if not isinstance(conversations, list):
        raise ConfigError("A file of ShareGPT holds a list of conversations; this one holds something else.")
    for entry in conversations:
        turns = entry.get("conversations") if isinstance(entry, dict) else None
        if not turns or len(turns) < 2:
            continue
        prompt, answer = str(turns[0]["value"]), str(turns[1]["value"])
        ids = tokenizer.encode(prompt)
        answered = output_len or len(tokenizer.encode(answer))
        short = len(ids) < _SHORTEST or answered < _SHORTEST
        if not short and len(ids) <= _LONGEST_PROMPT and len(ids) + answered <= _LONGEST_CONVERSATION:
            yield Sample(ids, prompt, answered)


def _custom(
    lines: Iterable[Any], path: Path, tokenizer: Tokenizer, output_len: int | None, default: int
) -> Iterator[Sample]:
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict) or not isinstance(line.get("prompt"), str):
            raise ConfigError(f'{path}, line {number}: give an object with a "prompt" on every line.')
        wanted = output_len or line.get("output_tokens") or default
        yield Sample(tokenizer.encode(line["prompt"]), line["prompt"], int(wanted))


def _read_json(path: Path) -> Any:
    return _parsed(path, _read(path))


def _read_lines(path: Path) -> list[Any]:
    return [_parsed(path, line) for line in _read(path).splitlines() if line.strip()]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from None


def _parsed(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path} is no valid JSON: {error}.") from None
