"""Prompts: as long as wanted, equal for an equal seed, read from files of two formats."""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import pytest
from openlathe_plugin_bench import datasets
from openlathe_plugin_bench.datasets import load_samples, random_samples

from openlathe.api import FlagParser, Tokenizer
from openlathe.spi import ConfigError


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Tokenizer:
    return Tokenizer.load(tiny_checkpoint)


def arguments(*words: str) -> argparse.Namespace:
    parser = FlagParser(prog="test")
    datasets.add_arguments(parser, num_prompts=10, random_lengths=(100, 20))
    return parser.parse_args(words)


def test_random_texts_are_tokenised_to_the_lengths_wanted(tokenizer: Tokenizer) -> None:
    samples = random_samples(tokenizer, random.Random(0), 20, 100, 7)
    assert [len(tokenizer.encode(sample.text)) for sample in samples] == [100] * 20
    assert all(sample.token_ids == tokenizer.encode(sample.text) for sample in samples)
    assert {sample.output_len for sample in samples} == {7}
    assert len({sample.text for sample in samples}) == 20


def test_lengths_are_drawn_around_the_middle(tokenizer: Tokenizer) -> None:
    samples = random_samples(tokenizer, random.Random(0), 200, 20, 10, ratio=0.5, prefix=8)
    assert {sample.prompt_len for sample in samples} == set(range(8 + 10, 8 + 30 + 1))
    assert {sample.output_len for sample in samples} == set(range(5, 15 + 1))
    assert len({tuple(sample.token_ids[:8]) for sample in samples}) == 1
    assert len({tuple(sample.token_ids[8:12]) for sample in samples}) > 100


def test_a_seed_gives_the_same_prompts(tokenizer: Tokenizer) -> None:
    args = arguments("--input-len", "30")
    assert load_samples(args, tokenizer, 3) == load_samples(args, tokenizer, 3) != load_samples(args, tokenizer, 4)
    assert load_samples(args, tokenizer, 3, more=2)[:10] == load_samples(args, tokenizer, 3)


def conversation(*turns: str) -> dict[str, Any]:
    return {"conversations": [{"from": "human", "value": turn} for turn in turns]}


def test_sharegpt(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "sharegpt.json"
    good = conversation("What is the weather in Paris today?", "It is sunny in Paris, 21 degrees.", "Thanks")
    others = [conversation("alone"), conversation("a", "b"), conversation("word " * 3000, "It is sunny in Paris."), {}]
    path.write_text(json.dumps([*others, good]))
    args = arguments("--dataset-name", "sharegpt", "--dataset-path", str(path), "--num-prompts", "3")
    samples = load_samples(args, tokenizer, 0)
    assert [sample.text for sample in samples] == ["What is the weather in Paris today?"] * 3
    assert samples[0].output_len == len(tokenizer.encode("It is sunny in Paris, 21 degrees."))
    args.no_oversample, args.sharegpt_output_len = True, 9
    assert [sample.output_len for sample in load_samples(args, tokenizer, 0)] == [9]


def test_lines_of_json(tokenizer: Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "One"}\n\n{"prompt": "Two", "output_tokens": 5}\n')
    args = arguments("--dataset-name", "custom", "--dataset-path", str(path), "--num-prompts", "2", "--disable-shuffle")
    assert [(one.text, one.output_len) for one in load_samples(args, tokenizer, 0)] == [("One", 256), ("Two", 5)]
    args.output_len = 3
    assert [one.output_len for one in load_samples(args, tokenizer, 0)] == [3, 3]


@pytest.mark.parametrize(
    "words, content, message",
    [
        (["--dataset-path", "FILE"], "", "random prompts have no file"),
        (["--dataset-name", "custom"], "", "needs --dataset-path"),
        (
            ["--dataset-name", "custom", "--dataset-path", "FILE"],
            '{"text": "a"}',
            'line 1: give an object with a "prom',
        ),
        (["--dataset-name", "custom", "--dataset-path", "FILE"], "{", "no valid JSON"),
        (["--dataset-name", "custom", "--dataset-path", "FILE"], "", "no prompt that can be used"),
        (["--dataset-name", "sharegpt", "--dataset-path", "FILE"], "{}", "holds a list of conversations"),
        (["--dataset-name", "sharegpt", "--dataset-path", "FILE.not"], "", "cannot be read"),
        (["--random-range-ratio", "1"], "", "from 0 to below 1"),
    ],
)
def test_what_cannot_be_used(
    tokenizer: Tokenizer, tmp_path: Path, words: list[str], content: str, message: str
) -> None:
    path = tmp_path / "file"
    path.write_text(content)
    args = arguments(*(word.replace("FILE", str(path)) for word in words))
    with pytest.raises(ConfigError, match=message):
        load_samples(args, tokenizer, 0)
