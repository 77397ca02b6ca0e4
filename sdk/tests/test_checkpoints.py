"""The kit's own checkpoints: complete, spread out, and for the scripted one exact."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest
import torch
import transformers

from openlathe_sdk.cache import cached
from openlathe_sdk.checkpoints import (
    HELD_OUT,
    SCRIPTS,
    scripted_examples,
    scripted_qwen3,
    tell,
    tiny_qwen3,
    trained_qwen3,
)
from openlathe_sdk.checkpoints.qwen3 import TALE_LENGTH
from openlathe_sdk.checkpoints.random_weights import VECTOR_NOISE


@pytest.fixture(scope="module")
def scripted() -> Path:
    return scripted_qwen3()


# -- random weights -----------------------------------------------------------------------------------------------


def test_a_tiny_checkpoint_is_complete() -> None:
    files = {file.name for file in tiny_qwen3().iterdir()}
    assert files == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }


def test_equal_arguments_give_the_same_checkpoint() -> None:
    assert tiny_qwen3(seed=3) == tiny_qwen3(seed=3) != tiny_qwen3(seed=4)


def test_a_copy_may_be_changed(tmp_path: Path) -> None:
    copy = tiny_qwen3(tmp_path / "copy")
    (copy / "config.json").write_text("{}")
    assert json.loads((tiny_qwen3() / "config.json").read_text())


def test_shards_have_an_index() -> None:
    folder = tiny_qwen3(max_shard_size="100KB")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1


def test_the_older_layout_of_the_configuration() -> None:
    new, old = (json.loads((tiny_qwen3(legacy_config=legacy) / "config.json").read_text()) for legacy in (False, True))
    assert old["rope_theta"] == new["rope_parameters"]["rope_theta"]
    assert old["torch_dtype"] == new["dtype"]
    assert not {"rope_parameters", "dtype"} & set(old)


@pytest.mark.parametrize("tie", [False, True])
def test_weights_make_differences_visible(tie: bool) -> None:
    """No vector is left at its initial value, and greedy tokens are no matter of chance."""
    model = transformers.AutoModelForCausalLM.from_pretrained(tiny_qwen3(tie=tie))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            assert 0.5 * VECTOR_NOISE < parameter.std() < 2 * VECTOR_NOISE, name
    with torch.inference_mode():
        logits = model(torch.arange(3, 60)[None]).logits[0]
    best = logits.topk(2).values
    assert logits.std() > 2
    assert (best[:, 0] - best[:, 1]).median() > 0.1
    assert len(set(logits.argmax(-1).tolist())) > 20


# -- the tokenizer ------------------------------------------------------------------------------------------------


def test_markers_are_tokens_that_are_not_special() -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_qwen3())
    for marker in ("<think>", "</think>", "<tool_call>", "</tool_call>"):
        (token,) = tokenizer.encode(marker)
        assert tokenizer.decode([token], skip_special_tokens=True) == marker
    (end,) = tokenizer.encode("<|im_end|>")
    assert tokenizer.decode([end], skip_special_tokens=True) == ""


@pytest.mark.parametrize("text", ["Hello, world!", "日本語 👋🏽", " \n\t x", "naïve café"])
def test_any_text_survives(text: str) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_qwen3())
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_rare_characters_are_several_tokens() -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_qwen3())
    assert len(tokenizer.encode("👋")) > 1


# -- scripts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_script_is_known_by_heart(scripted: Path, dtype: str) -> None:
    """Greedily, exactly, with its end token, also in bfloat16."""
    model = transformers.AutoModelForCausalLM.from_pretrained(scripted).to(getattr(torch, dtype))
    for example in scripted_examples(scripted):
        prompt = torch.tensor([example.prompt])
        answer = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=len(example.completion) + 5
        )
        assert answer[0, len(example.prompt) :].tolist() == example.completion


def test_scripts_cover_what_clients_do() -> None:
    assert any(script.reasoning and not script.calls for script in SCRIPTS.values())
    assert any(len(script.calls) == 1 for script in SCRIPTS.values())
    assert any(len(script.calls) == 2 for script in SCRIPTS.values())
    assert any(message["role"] == "tool" for script in SCRIPTS.values() for message in script.messages)
    assert any(not script.enable_thinking for script in SCRIPTS.values())


# -- the cache ----------------------------------------------------------------------------------------------------


def _count_builds(root: Path) -> None:
    def build(folder: Path) -> None:
        with (root / "builds").open("a") as builds:
            builds.write("x")
        (folder / "made").write_text("whole")

    assert (cached("thing", {"size": 1}, build) / "made").read_text() == "whole"


def test_processes_build_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLATHE_TEST_CACHE", str(tmp_path))
    processes = [multiprocessing.get_context("fork").Process(target=_count_builds, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert (tmp_path / "builds").read_text() == "x"


def test_a_build_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLATHE_TEST_CACHE", str(tmp_path))

    def build(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached("thing", {}, build)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


# -- the tales ----------------------------------------------------------------------------------------------------


def test_tales_are_the_same_every_time_and_differ_from_each_other() -> None:
    told = tell(0, 50).split("\n\n")
    assert told == tell(0, 50).split("\n\n")
    assert len(set(told)) == 50
    assert told[7] == tell(7, 1)


def test_the_trained_checkpoint_is_sure_of_much_that_it_has_never_seen() -> None:
    folder = trained_qwen3()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    reader = transformers.AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([reader.encode(tell(HELD_OUT + index, 2))[:TALE_LENGTH] for index in range(8)])
    with torch.inference_mode():
        logprobs = model(ids[:, :-1]).logits.log_softmax(-1)
    losses = -logprobs.gather(-1, ids[:, 1:, None])
    assert losses.mean() < 1.0, "a vocabulary of a thousand would be guessed at 6.9 nats"
    likeliest = logprobs.exp().amax(-1)
    assert 0.5 < likeliest.mean() < 0.95, "neither flat nor known by heart"
    assert (likeliest > 0.99).float().mean() > 0.2
    assert (likeliest < 0.5).float().mean() > 0.1
