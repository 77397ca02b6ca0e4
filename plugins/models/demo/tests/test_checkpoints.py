"""What is in the package: sizes, formats, and that the weights do what their card says."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

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
    assert (DRAFT / "model.safetensors").stat().st_size < 0.1 * (DEMO / "model.safetensors").stat().st_size
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


@pytest.mark.parametrize("folder", ADAPTERS, ids=lambda folder: folder.name)
def test_adapters_change_the_manner_in_peft(folder: Path) -> None:
    """PEFT itself reads them, and what it then writes is in the adapter's style where the model alone is not."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    style, tokenizer = styles()[folder.name], AutoTokenizer.from_pretrained(DEMO)
    base = AutoModelForCausalLM.from_pretrained(DEMO, dtype=torch.float32)
    renderer = ChatRenderer(tokenizer.chat_template, {})
    asked = [prompt(made, renderer) for made in evaluate.held_out(["facts"], 8)]

    def told(model: torch.nn.Module) -> list[str]:
        answers = []
        for text in asked:
            ids = tokenizer(text, return_tensors="pt").input_ids
            ids = model.generate(input_ids=ids, max_new_tokens=150, do_sample=False)[0, ids.shape[1] :]
            answers.append(Answer.read(tokenizer.decode(ids[:-1])).content)
        return answers

    assert not all(map(style.keeps, told(base)))
    kept = list(map(style.keeps, told(PeftModel.from_pretrained(base, folder))))
    assert sum(kept) >= 7, kept


def test_the_card_has_every_row_of_the_evaluation() -> None:
    card = rows(DEMO / "README.md")
    assert {name: goal for name, (_, goal) in card.items()} == {row.name: row.goal for row in evaluate.ROWS}


@pytest.mark.parametrize("skill", SKILLS)
def test_it_can_what_its_card_says(demo: object, skill: str) -> None:
    """Twelve held-out questions of each skill; how many may be wrong follows from the share the card gives."""
    conversations = evaluate.held_out([skill], 12)
    wrong = [one for one in evaluate.judged(demo, conversations) if not one.marks.full]
    card = rows(DEMO / "README.md")
    share = min(card[row.name][0] for row in evaluate.ROWS if skill in row.skills)
    assert len(wrong) <= 12 * (1 - share) + 3 * (12 * share * (1 - share)) ** 0.5 + 0.5, [one.text for one in wrong]


@pytest.fixture(scope="module")
def demo() -> object:
    return evaluate.load(DEMO)


@pytest.mark.long
def test_the_card_has_the_shares_that_are_measured(demo: object) -> None:
    """On another processor a few of the answers may be others."""
    count = 200
    found = evaluate.shares(evaluate.examine(demo, count))
    for name, (share, _) in rows(DEMO / "README.md").items():
        assert abs(found[name] - share) <= 0.02, name
