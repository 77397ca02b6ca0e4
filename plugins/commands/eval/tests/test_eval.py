"""``core eval`` against transformers: the same perplexities and divergences, made by an engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from openlathe_plugin_eval.eval import reference_config
from openlathe_plugin_eval.windows import BUNDLED, texts, windows

from openlathe.api import EngineConfig, Plan, Tokenizer
from openlathe.cli.main import main
from openlathe.spi import ConfigError
from openlathe_sdk.checkpoints import HELD_OUT, tell

FLAGS = ["--kv-cache-memory-bytes", "8M", "--context-len", "128"]


@pytest.fixture(scope="module")
def tales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "tales.txt"
    path.write_text(tell(HELD_OUT, 4))
    return path


@pytest.fixture(scope="module")
def noisy(trained_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained checkpoint with each weight off by a little."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("noisy")
    model = AutoModelForCausalLM.from_pretrained(trained_checkpoint, dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 0.05 * torch.randn(parameter.shape, generator=generator))
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(trained_checkpoint).save_pretrained(folder)
    return folder


def evaluate(output: Path, *words: Any) -> dict[str, Any]:
    assert main(["eval", *map(str, words), *FLAGS, "--output-json", str(output)]) == 0
    found: dict[str, Any] = json.loads(output.read_text())
    return found


def distributions(checkpoint: Path, pieces: list[list[int]]) -> torch.Tensor:
    """Of the next token behind each token but the last of each piece, by transformers: [T, V] log-probabilities."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with torch.inference_mode():
        logits = [model(torch.tensor([ids])).logits[0, :-1] for ids in pieces]
    return torch.cat(logits).double().log_softmax(-1)


@pytest.mark.parametrize("budget", [2048, 24, 1])
def test_figures_are_those_of_transformers(
    trained_checkpoint: Path, noisy: Path, tales: Path, tmp_path: Path, budget: int
) -> None:
    """However many tokens the engine takes in a step."""
    words = ["--text", tales, "--against", f"model={trained_checkpoint}", "--max-num-batched-tokens", budget]
    found = evaluate(tmp_path / "figures.json", noisy, "--dtype", "float32", *words)
    pieces = list(windows([tales.read_text()], Tokenizer.load(trained_checkpoint), 128))
    targets = torch.tensor([token for ids in pieces for token in ids[1:]])
    q, p = distributions(noisy, pieces), distributions(trained_checkpoint, pieces)
    kl = (p.exp() * (p - q)).sum(-1)
    assert found["num_tokens"] == len(targets)
    for name, logprobs in (("perplexity", q), ("reference_perplexity", p)):
        wanted = (-logprobs.gather(1, targets[:, None]).mean()).exp().item()
        assert found[name] == pytest.approx(wanted, rel=1e-4)
    assert found["kl_divergence"]["mean"] == pytest.approx(kl.mean().item(), rel=1e-3)
    assert found["kl_divergence"]["max"] == pytest.approx(kl.max().item(), rel=1e-3)
    assert found["top1_agreement"] == pytest.approx((p.argmax(-1) == q.argmax(-1)).double().mean().item(), abs=5e-3)
    assert found["kl_divergence"]["mean"] > 1e-2, "the noise is to be seen"


def test_bfloat16_loses_little_and_not_nothing(trained_checkpoint: Path, tales: Path, tmp_path: Path) -> None:
    words = [trained_checkpoint, "--dtype", "bfloat16", "--reference", "float32", "--text", tales]
    found = evaluate(tmp_path / "figures.json", *words)
    assert (found["candidate"]["dtype"], found["reference"]["dtype"]) == ("bfloat16", "float32")
    assert 1e-6 < found["kl_divergence"]["mean"] < 1e-3
    assert found["top1_agreement"] > 0.97
    assert found["perplexity_ratio"] == pytest.approx(1.0, abs=5e-3)


def test_the_same_twice_loses_nothing(
    trained_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(tmp_path / "figures.json", trained_checkpoint, "--against", "max_num_seqs=4")
    assert found["texts"] == list(BUNDLED)
    assert found["kl_divergence"]["max"] == 0.0
    assert found["top1_agreement"] == found["perplexity_ratio"] == 1.0
    shown = capsys.readouterr().out
    assert "Mean KL divergence (nats)     0.000e+00 ± 0.0e+00\n" in shown
    assert "Same likeliest token          100.00%\n" in shown


def test_a_perplexity_alone(
    trained_checkpoint: Path, tales: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [trained_checkpoint, "--reference", "none", "--text", tales, "--num-tokens", "200"]
    found = evaluate(tmp_path / "figures.json", *words)
    assert found["num_tokens"] == 200
    assert found["reference"] is None
    assert 1.2 < found["perplexity"] < 4
    assert "KL" not in capsys.readouterr().out


def test_nothing_is_left_behind(trained_checkpoint: Path, tmp_path: Path) -> None:
    before = vars(Plan)["resolve"]
    evaluate(tmp_path / "figures.json", trained_checkpoint, "--reference", "none", "--num-tokens", "10")
    assert vars(Plan)["resolve"] is before


# -- configurations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, dtype, against, changes",
    [
        ({"quantization": "int8"}, None, [], {"quantization": None}),
        ({"quantization": "int8"}, "bfloat16", [], {"quantization": None, "dtype": "bfloat16"}),
        ({"kv_cache_dtype": "int8"}, None, [], {"kv_cache_dtype": "auto"}),
        ({"quantization": "int4"}, None, ["quantization=int8"], {"quantization": "int8"}),
        ({}, None, ["--block-size=32", "max_model_len=4k"], {"block_size": 32, "max_model_len": 4000}),
        ({}, None, ["enable_prefix_caching=false"], {"enable_prefix_caching": False}),
        ({}, None, ["model=other"], {"model": "other"}),
        ({}, None, ["kernels=linear=torch"], {"kernels": {"linear": "torch"}}),
    ],
)
def test_the_reference(given: dict[str, Any], dtype: str | None, against: list[str], changes: dict[str, Any]) -> None:
    config = EngineConfig(model="m", seed=3, **given)
    wanted = EngineConfig.from_dict(config.to_dict() | changes)
    assert reference_config(config, dtype, against) == wanted


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "Which model?"),
        (["m"], "Both configurations would be the same"),
        (["m", "--reference", "none", "--against", "dtype=float32"], "leave one of them out"),
        (["m", "--against", "dtype"], "write KEY=VALUE"),
        (["m", "--reference", "none", "--context-len", "2"], "give 8 or more"),
        (["m", "--reference", "none", "--num-tokens", "0"], "give 1 or more"),
        (["m", "--reference", "none", "--text", "/nowhere"], "/nowhere cannot be read"),
    ],
)
def test_what_cannot_be_meant(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_setting_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["eval", "m", "--against", "quantisation=int8"])
    assert "did you mean --quantization?" in capsys.readouterr().err


def test_pieces_must_fit_and_vocabularies_be_equal(
    trained_checkpoint: Path, tiny_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--kv-cache-memory-bytes", "8M", "--reference", "none"]
    assert main(["eval", str(trained_checkpoint), *few, "--context-len", "100", "--max-model-len", "100"]) == 2
    assert "the context 100; give less" in capsys.readouterr().err
    assert main(["eval", str(trained_checkpoint), *FLAGS, "--against", f"model={tiny_checkpoint}"]) == 2
    assert "compare configurations of one checkpoint" in capsys.readouterr().err


# -- texts --------------------------------------------------------------------------------------------------------


def test_windows_hold_every_token_once(trained_checkpoint: Path) -> None:
    tokenizer = Tokenizer.load(trained_checkpoint)
    found = list(windows(["one two three " * 50, "", "four"], tokenizer, 16))
    assert max(map(len, found)) == 16
    assert [id for window in found for id in window] == tokenizer.encode("one two three " * 50) + tokenizer.encode(
        "four"
    )


class Opening:
    """A tokenizer that begins every text with a special token."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        return [0] * add_special_tokens + [ord(character) for character in text]


def test_every_window_begins_as_a_text_does() -> None:
    assert list(windows(["abcde"], Opening(), 3)) == [[0, 97, 98], [0, 99, 100], [0, 101]]  # type: ignore[arg-type]


def test_texts(tmp_path: Path) -> None:
    assert all(len(text.split()) > 100 for text in texts([]).values())
    path = tmp_path / "latin"
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="cannot be read"):
        texts([path])
