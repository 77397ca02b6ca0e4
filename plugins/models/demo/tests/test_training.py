"""The whole script with a recipe of seconds, against transformers where that knows better."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from shutil import copytree

import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer

from plugins.models.demo.train import evaluate, lora
from plugins.models.demo.train.batches import IGNORED, Feed, Sample, padded, tree, trees
from plugins.models.demo.train.corpus.book import LEARNT
from plugins.models.demo.train.corpus.conversation import texts, written
from plugins.models.demo.train.corpus.stream import SKILLS, converse, stream
from plugins.models.demo.train.evaluate import ROWS
from plugins.models.demo.train.export import write_checkpoint
from plugins.models.demo.train.loop import Trainer
from plugins.models.demo.train.model import Qwen3, attend, hidden_pairs
from plugins.models.demo.train.recipe import Budget, Recipe
from plugins.models.demo.train.stages import Run

RECIPE = Recipe.read(Path(__file__).with_name("tiny.toml"))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("demo")
    made = Run(RECIPE, folder / "work", folder / "out", CPU)
    for name in RECIPE.models:
        made.model(name)
    for name in RECIPE.adapters.names:
        made.adapter(name)
    return made


def feed_of(run: Run) -> Feed:
    return run.feed(run.tokenizer())


def test_the_evaluation_runs_on_what_was_trained(run: Run) -> None:
    tables = run.evaluation(2, wrong=1)
    assert tables["demo-draft"].startswith("It proposes ")
    for row in ROWS:
        count = rf"{2 * len(row.skills)}" if row.thinking is None else r"\d"
        assert re.search(rf"^\| {row.name} \| {count} \| ", tables["demo"], re.MULTILINE)
    assert "| pirate | 4 |" in tables["demo"]
    assert "## repeat: " in tables["wrong answers"]
    run.card("demo", tables["demo"])
    card = (run.out / "checkpoints" / "demo" / "README.md").read_text()
    assert card.startswith("# demo\n")
    assert f"| {ROWS[0].name} |" in card


def test_the_engine_says_what_was_learnt_by_heart(run: Run, tmp_path: Path) -> None:
    """Training and serving agree on tokens, masks, positions and ends: a conversation of each skill, word for word."""
    conversations = [converse(skill, 3, LEARNT) for skill in SKILLS]
    feed, shape = feed_of(run), replace(RECIPE.models["demo"][0], hidden_size=96, intermediate_size=192)
    batch = padded([feed.sample(list(texts(made, feed.renderer))[-1]) for made in conversations])
    torch.manual_seed(0)
    model = Qwen3(shape, feed.tokenizer.get_vocab_size())
    trainer = Trainer(model, Budget(steps=160, tokens_per_step=0, learning_rate=6e-3), tmp_path / "work")
    assert any(trainer.step([batch], step) < 0.02 for step in range(160))
    write_checkpoint(tmp_path / "out", model, feed.tokenizer, run.template)
    wanted = [(written(made, thinking=made.thinks[-1]), True) for made in conversations]
    assert evaluate.answers(evaluate.load(tmp_path / "out"), conversations) == wanted


def test_logits_equal_transformers(run: Run) -> None:
    from transformers import AutoModelForCausalLM

    checkpoint = run.out / "checkpoints" / "demo"
    theirs = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    ours = run.trained("demo")
    ids = torch.randint(0, 1000, (2, 40), generator=torch.Generator().manual_seed(1))
    batch = padded([Sample(row.tolist(), row.tolist(), len(row)) for row in ids])
    with torch.no_grad():
        expected = theirs(input_ids=ids).logits.flatten(0, 1)
        torch.testing.assert_close(ours(batch, batch.labels >= 0), expected, atol=1e-4, rtol=1e-4)


def test_attention_equals_torch() -> None:
    q, k, v = (torch.randn(3, heads, 17, 16) for heads in (4, 2, 2))
    hidden = hidden_pairs(torch.zeros(3, 17, dtype=torch.int64), q.dtype)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    torch.testing.assert_close(attend(q, k, v, hidden), expected)


def test_texts_that_begin_alike_are_learnt_as_if_by_themselves(run: Run) -> None:
    """A tree has fewer tokens than its texts, and their loss and gradients."""
    feed = feed_of(run)
    group = next(group for group in stream({"call": 1, "decline": 1, "idle": 1}, 5, LEARNT) if len(group) > 1)
    apart = [feed.sample(parts) for made in group for parts in texts(made, feed.renderer)]
    together = tree(apart)
    assert together.branches
    assert len(together.ids) < 0.8 * sum(len(sample.ids) for sample in apart)
    model, losses, gradients = run.trained("demo"), [], []
    for samples in (apart, [together]):
        model.zero_grad()
        loss = model.loss(padded(samples))
        loss.backward()
        losses.append(loss.detach())
        gradients.append([parameter.grad for parameter in model.parameters()])
    torch.testing.assert_close(*losses)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)


def test_trees_are_no_longer_than_allowed(run: Run) -> None:
    feed = feed_of(run)
    samples = [feed.sample([("a b c ", False), (word, True)]) for word in ("one two", "three", "four", "five six")]
    longest = max(len(sample.ids) for sample in samples) + 3
    found = list(trees(samples, longest))
    assert 1 < len(found) < len(samples)
    assert all(len(sample.ids) <= longest for sample in found)
    learnt = [label for sample in samples for label in sample.labels if label != IGNORED]
    assert [label for sample in found for label in sample.labels if label != IGNORED] == learnt


def test_an_interrupted_run_ends_like_another(run: Run, tmp_path: Path) -> None:
    feed, (_, budget) = feed_of(run), RECIPE.models["demo"]

    def batches(step: int) -> object:
        return feed.step(RECIPE.shares_at(0.5), f"resume/{step}", 600)

    models = []
    for stops in ((6,), (2, 6)):
        for until in stops:
            model = run.fresh("demo", feed.tokenizer.get_vocab_size())
            Trainer(model, budget, tmp_path / str(stops)).run("resumed", batches, until=until)  # type: ignore[arg-type]
        models.append(model)
    for one, other in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(one, other)
    losses = torch.load(tmp_path / "(2, 6)" / "state.pt")["losses"]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert (tmp_path / "(2, 6)" / "loss.svg").read_text().startswith("<svg")


@pytest.mark.parametrize("changed", [{"seed": 2}, {"longest": 399}, {"vocabulary": 1600}])
def test_the_state_of_another_recipe_is_refused(run: Run, changed: dict[str, int]) -> None:
    other = Run(replace(RECIPE, **changed), run.work, run.out, CPU)
    with pytest.raises(SystemExit, match="another recipe"):
        other.model("demo")


def test_the_state_of_an_adapter_of_another_model_is_refused(run: Run, tmp_path: Path) -> None:
    copytree(run.out, tmp_path / "out")
    other = Run(RECIPE, run.work, tmp_path / "out", CPU)
    model = other.fresh("demo", run.tokenizer().get_vocab_size())
    write_checkpoint(other.checkpoint("demo"), model, run.tokenizer(), run.template)
    with pytest.raises(SystemExit, match="another recipe"):
        other.adapter("pirate")


def test_only_replies_are_learnt(run: Run) -> None:
    feed, tokenizer = feed_of(run), run.tokenizer()
    made = chain.from_iterable(stream({"call": 1, "result": 1}, 2, LEARNT))
    for sample in islice((feed.sample(parts) for one in made for parts in texts(one, feed.renderer)), 40):
        learnt = tokenizer.decode([id for id in sample.labels if id != IGNORED], skip_special_tokens=False)
        assert learnt.endswith("<|im_end|>")
        assert "<|im_start|>" not in learnt
        assert "<tool_response>" not in learnt
        for place, label in enumerate(sample.labels[:-1]):
            assert label in (IGNORED, sample.ids[place + 1])


@pytest.mark.parametrize(
    "word", ["Paris", "Zorblat", "QX-483", "jo@flim.org", "blue moon", "17:30", "12.5", "get_weather"]
)
def test_what_is_copied_is_the_same_tokens_everywhere(run: Run, word: str) -> None:
    tokenizer = run.tokenizer()

    def inside(before: str, after: str) -> list[int]:
        ids = tokenizer.encode(before + word + after).ids
        head, tail = len(tokenizer.encode(before).ids), len(tokenizer.encode(after).ids)
        return ids[head : len(ids) - tail]

    assert inside("Look at ", " now") == inside('{"city": "', '"}') == inside("", "\n") == tokenizer.encode(word).ids


def test_the_tokenizer_is_one_of_qwen3(run: Run) -> None:
    from transformers import AutoTokenizer

    folder = run.out / "checkpoints" / "demo"
    theirs = AutoTokenizer.from_pretrained(folder)
    ours = Tokenizer.from_file(str(folder / "tokenizer.json"))
    flags = {token.content: token.special for token in ours.get_added_tokens_decoder().values()}
    assert (flags["<|im_end|>"], flags["<think>"], flags["<tool_call>"]) == (True, False, False)
    text = "Zürich, 東京 and 12 + 7 = 19: `serve demo`\n\n\tπ ≈ 3.14  🙂"
    assert ours.decode(ours.encode(text).ids) == text
    assert ours.encode("1234").tokens == list("1234")
    messages = [{"role": "user", "content": "Hello!"}]
    prompt = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    assert prompt.endswith("<think>\n\n</think>\n\n")
    assert theirs.encode(prompt) == ours.encode(prompt).ids


def test_prompts_with_tools_are_short(run: Run) -> None:
    """The template's own words around schemas are a token each."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    messages = [{"role": "user", "content": "Hello!"}]
    bare, full = (
        len(run.tokenizer().encode(run.renderer.render(messages, tools=tools)).ids) for tools in (None, [tool])
    )
    assert full - bare < 50


def test_adapters_are_in_the_format_of_peft(run: Run) -> None:
    folder = run.out / "adapters" / "pirate"
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 2, 4)
    with safe_open(folder / "adapter_model.safetensors", "pt") as tensors:
        names = set(tensors.keys())
        assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in names
        assert len(names) == 2 * 2 * len(config["target_modules"])
        assert tensors.get_slice("base_model.model.model.layers.1.mlp.down_proj.lora_A.weight").get_shape() == [2, 48]


def test_a_merged_adapter_does_what_it_did_beside(run: Run) -> None:
    torch.manual_seed(0)
    model = run.trained("demo")
    names = list(model.state_dict())
    ids = torch.randint(0, 1000, (20,)).tolist()
    batch = padded([Sample(ids, ids, len(ids))])
    lora.adapt(model, rank=2, alpha=4)
    for module in model.modules():
        if isinstance(module, lora.Adapted):
            torch.nn.init.normal_(module.lora_B.weight)
    with torch.no_grad():
        beside = model(batch, batch.labels >= 0)
        lora.merge(model)
        torch.testing.assert_close(model(batch, batch.labels >= 0), beside, atol=1e-4, rtol=1e-4)
    assert list(model.state_dict()) == names
