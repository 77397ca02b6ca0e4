"""What is in the package: sizes, formats, and that the weights do what their card says."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from openlathe import LLM
from openlathe.frontend.render import ChatRenderer
from openlathe.plugins.assemble import assemble
from plugins.models.demo.train import evaluate
from plugins.models.demo.train.corpus.conversation import prompt
from plugins.models.demo.train.corpus.stream import SKILLS
from plugins.models.demo.train.corpus.styles import styles
from plugins.models.demo.train.score import Answer

PACKAGE = Path(str(files("openlathe_plugin_demo")))
DEMO, DRAFT = (PACKAGE / "checkpoints" / name for name in ("demo", "demo-draft"))
ADAPTERS = sorted((PACKAGE / "adapters").iterdir())
MEGABYTE = 1_000_000


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def rows(card: Path) -> dict[str, tuple[float, float]]:
    """(share, goal) by the rows of the evaluation's table."""
    found = re.findall(r"^\| ([^|]+) \| [\d,]+ \| ([\d.]+)% \| (\d+)% \|$", card.read_text(), re.MULTILINE)
    return {name: (float(share) / 100, float(goal) / 100) for name, share, goal in found}


def test_it_is_small() -> None:
    assert (DEMO / "model.safetensors").stat().st_size <= 12 * MEGABYTE
    assert size(PACKAGE) <= 16 * MEGABYTE
    assert (DRAFT / "model.safetensors").stat().st_size < 0.12 * (DEMO / "model.safetensors").stat().st_size
    assert [folder.name for folder in ADAPTERS] == ["pirate", "terse"]
    for folder in ADAPTERS:
        assert size(folder) < 400_000


def test_it_is_a_checkpoint_like_any_other() -> None:
    """Nothing is named after it outside its package: the family's plugin serves it."""
    for folder in (DEMO, DRAFT):
        config = json.loads((folder / "config.json").read_text())
        assert (config["architectures"], config["model_type"]) == (["Qwen3ForCausalLM"], "qwen3")
        assert (folder / "tokenizer.json").read_bytes() == (DEMO / "tokenizer.json").read_bytes()
        assert {path.suffix for path in folder.iterdir()} <= {".json", ".jinja", ".md", ".safetensors"}
    bundled = {provider.spec.name: provider for provider in assemble().providers("checkpoint")}
    assert {"demo", "demo-draft"} <= set(bundled)


def test_adapters_fit_the_model() -> None:
    config = json.loads((DEMO / "config.json").read_text())
    weights = load_file(DEMO / "model.safetensors")
    for folder in ADAPTERS:
        adapter = load_file(folder / "adapter_model.safetensors")
        for name, tensor in adapter.items():
            target = name.removeprefix("base_model.model.").partition(".lora_")[0] + ".weight"
            assert tensor.shape[1 if ".lora_A." in name else 0] == weights[target].shape[1 if ".lora_A." in name else 0]
        assert len(adapter) == 2 * 7 * config["num_hidden_layers"]


def test_transformers_writes_the_same(demo: LLM) -> None:
    """With its own tokenizer, layers and greedy search."""
    tokenizer = AutoTokenizer.from_pretrained(DEMO)
    model = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32)
    asked = evaluate.held_out(SKILLS, 2)
    renderer = ChatRenderer(tokenizer.chat_template, {})
    ours = [text for text, _ in evaluate.answers(demo, asked)]
    theirs = [written(model, tokenizer, prompt(one, renderer)) for one in asked]
    same = [one == other for one, other in zip(ours, theirs, strict=True)]
    assert sum(same) >= 0.9 * len(same), list(zip(ours, theirs, strict=True))  # ours computes in bfloat16


def written(model: torch.nn.Module, tokenizer: Any, text: str) -> str:
    """What transformers writes behind ``text``, without its end token."""
    ids = tokenizer(text, return_tensors="pt").input_ids
    found = model.generate(input_ids=ids, max_new_tokens=evaluate.MAX_TOKENS, do_sample=False)
    return str(tokenizer.decode(found[0, ids.shape[1] : -1]))


@pytest.mark.parametrize("folder", ADAPTERS, ids=lambda folder: folder.name)
def test_adapters_change_the_manner_in_peft(folder: Path) -> None:
    """PEFT itself reads them, and what it then writes is in the adapter's style where the model alone is not."""
    style, tokenizer = styles()[folder.name], AutoTokenizer.from_pretrained(DEMO)
    base = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32)
    renderer = ChatRenderer(tokenizer.chat_template, {})
    asked = [prompt(made, renderer) for made in evaluate.held_out(["facts"], 8)]

    def told(model: torch.nn.Module) -> list[str]:
        return [Answer.read(written(model, tokenizer, text)).content for text in asked]

    assert not all(map(style.keeps, told(base)))
    kept = list(map(style.keeps, told(PeftModel.from_pretrained(base, folder))))
    assert sum(kept) >= 7, kept


def test_the_card_has_every_row_of_the_evaluation() -> None:
    card = rows(DEMO / "README.md")
    assert {name: goal for name, (_, goal) in card.items()} == {row.name: row.goal for row in evaluate.ROWS}


@pytest.mark.parametrize("row", evaluate.ROWS, ids=lambda row: row.name)
def test_it_can_what_its_card_says(examined: list[evaluate.Examined], row: evaluate.Row) -> None:
    """Neither worse nor better, within what the draw of so few questions explains."""
    marks = row.marks(examined)
    share, _ = rows(DEMO / "README.md")[row.name]
    deviation = (share * (1 - share) / len(marks)) ** 0.5
    assert abs(sum(marks) / len(marks) - share) <= 3 * deviation + 1 / len(marks)


@pytest.fixture(scope="module")
def examined(demo: LLM) -> list[evaluate.Examined]:
    return evaluate.examine(demo, 30)


@pytest.fixture(scope="module")
def demo() -> LLM:
    return evaluate.load(DEMO)


@pytest.mark.long
def test_the_card_has_the_shares_that_are_measured(demo: LLM) -> None:
    """On another processor a few of the answers may be others."""
    examined = evaluate.examine(demo, 200)
    card = rows(DEMO / "README.md")
    for row in evaluate.ROWS:
        marks = row.marks(examined)
        assert abs(sum(marks) / len(marks) - card[row.name][0]) <= 0.02, row.name
