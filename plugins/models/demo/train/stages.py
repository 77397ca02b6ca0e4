"""The stages of training. Each leaves files and does nothing where they are complete."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from hashlib import sha256
from importlib import resources
from itertools import chain, islice
from math import prod
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer

from openlathe.frontend.render import ChatRenderer

from . import evaluate, lora, tokenizer
from .batches import Batch, Feed
from .corpus.book import LEARNT
from .corpus.conversation import texts
from .corpus.stream import stream
from .corpus.styles import styles
from .export import TOKENS, WEIGHTS, write_checkpoint
from .loop import Trainer
from .model import Qwen3
from .recipe import Recipe

#: Tokens of a batch: narrow ones waste less on padding, wide ones fill a GPU.
NARROW, WIDE = 3072, 16384
WORK = Path(".cache") / "demo"
CARDS = Path(__file__).with_name("cards")
TEMPLATE = ("openlathe_plugin_qwen3", "templates/qwen3.jinja")


def device(name: str) -> torch.device:
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


class Run:
    """One run of the recipe: ``work`` holds what an interruption must not lose, ``out`` gets what is served."""

    def __init__(self, recipe: Recipe, work: Path, out: Path, device: torch.device, *, compiled: bool = False) -> None:
        self.recipe, self.work, self.out, self.device = recipe, work, out, device
        self.compiled = compiled
        package, path = TEMPLATE
        self.template = (resources.files(package) / path).read_text(encoding="utf-8")
        self.renderer = ChatRenderer(self.template, {})

    def model(self, name: str) -> None:
        """Its checkpoint is written whenever its state is, so that it can be tried while it learns."""
        _, budget = self.recipe.models[name]
        tokenizer = self.tokenizer()
        model, feed = self.fresh(name, tokenizer.get_vocab_size()), self.feed(tokenizer)
        if self.compiled:
            model.compile_layers()
        trainer = Trainer(model, budget, self.work / name, identity=self.recipe.identity(name))

        def batches(step: int) -> list[Batch]:
            shares = self.recipe.shares_at(step / budget.steps)
            return feed.step(shares, f"{self.recipe.seed}/{step}", budget.tokens_per_step)

        def write() -> None:
            write_checkpoint(self.checkpoint(name), model, tokenizer, self.template, tokens=trainer.tokens)

        trainer.run(name, batches, on_save=write)
        write()

    def adapter(self, name: str) -> None:
        """Learnt on top of the first model."""
        entry = self.recipe.adapters
        model = self.trained(self.recipe.base)
        lora.adapt(model, rank=entry.rank, alpha=entry.alpha)
        if self.compiled:
            model.compile_layers()
        feed = replace(self.feed(self.tokenizer_of(self.recipe.base)), style=styles()[name])
        weights = (self.checkpoint(self.recipe.base) / WEIGHTS).read_bytes()
        identity = f"{self.recipe.seed} {entry} on {sha256(weights).hexdigest()}"

        def batches(step: int) -> list[Batch]:
            return feed.step(entry.shares, f"{self.recipe.seed}/{name}/{step}", entry.budget.tokens_per_step)

        Trainer(model, entry.budget, self.work / name, identity=identity).run(name, batches)
        lora.write_adapter(self.folder(name), model, base=self.recipe.base, rank=entry.rank, alpha=entry.alpha)

    def evaluation(self, questions: int, *, wrong: int = 0) -> dict[str, str]:
        """Tables by model, as markdown, of what is in ``out``; with so many wrong answers of each skill."""
        base, *drafters = self.recipe.models
        examined = evaluate.examine(evaluate.load(self.checkpoint(base)), questions)
        tables = {base: f"{evaluate.table(examined)}\n\n{self._adapters_table(questions)}"}
        for name in drafters:
            share = evaluate.agreement(self.trained(name), self.feed(self.tokenizer_of(name)), examined)
            tables[name] = f"It proposes {share:.1%} of the tokens that {base} then writes, in the same evaluation."
        if wrong:
            tables["wrong answers"] = evaluate.mistakes(examined, wrong)
        return tables

    def card(self, name: str, table: str) -> None:
        """Writes the model card, with the evaluation's table."""
        with safe_open(self.checkpoint(name) / WEIGHTS, "pt") as weights:
            tokens = int(weights.metadata()[TOKENS])
            parameters = sum(prod(weights.get_slice(key).get_shape()) for key in weights.keys())  # noqa: SIM118
        card = (CARDS / f"{name}.md").read_text(encoding="utf-8")
        known = {"longest": self.recipe.longest, "tones": len(LEARNT.page("personas")["tones"])}
        card = card.format(parameters=parameters, tokens=tokens, evaluation=table, **known)
        (self.checkpoint(name) / "README.md").write_text(card, encoding="utf-8")

    def _adapters_table(self, questions: int) -> str:
        """Of each adapter, merged into the weights."""
        lines = ["| adapter | questions | answers in its style |", "|---|---|---|"]
        for name in self.recipe.adapters.names:
            with tempfile.TemporaryDirectory() as folder:
                tokenizer = self.tokenizer_of(self.recipe.base)
                write_checkpoint(Path(folder), self.adapted(name), tokenizer, self.template)
                share = evaluate.in_style(evaluate.load(folder), styles()[name], questions)
            lines.append(f"| {name} | {len(evaluate.STYLED) * questions:,} | {share:.1%} |")
        return "\n".join(lines)

    # -- what is on disk ------------------------------------------------------------------------------------------

    def checkpoint(self, name: str) -> Path:
        return self.out / "checkpoints" / name

    def folder(self, adapter: str) -> Path:
        return self.out / "adapters" / adapter

    def tokenizer_of(self, name: str) -> Tokenizer:
        return Tokenizer.from_file(str(self.checkpoint(name) / "tokenizer.json"))

    def trained(self, name: str) -> Qwen3:
        """A model as its checkpoint has it."""
        model = self.fresh(name, self.tokenizer_of(name).get_vocab_size())
        model.load_state_dict(load_file(self.checkpoint(name) / WEIGHTS))
        return model

    def adapted(self, name: str) -> Qwen3:
        """The first model with an adapter merged into its weights."""
        entry = self.recipe.adapters
        model = self.trained(self.recipe.base)
        lora.adapt(model, rank=entry.rank, alpha=entry.alpha)
        lora.read_adapter(self.folder(name), model)
        lora.merge(model)
        return model

    # -- what they are made with ----------------------------------------------------------------------------------

    def feed(self, tokenizer: Tokenizer) -> Feed:
        width = NARROW if self.device.type == "cpu" else WIDE
        return Feed(tokenizer=tokenizer, renderer=self.renderer, longest=self.recipe.longest, width=width)

    def fresh(self, name: str, vocabulary: int) -> Qwen3:
        shape, _ = self.recipe.models[name]
        torch.manual_seed(self.recipe.seed)
        return Qwen3(shape, vocabulary).to(self.device)

    def tokenizer(self) -> Tokenizer:
        """Trained on conversations as they come at the end, once."""
        file = self.work / "tokenizer.json"
        if not file.is_file():
            shares = self.recipe.shares_at(1.0)
            conversations = chain.from_iterable(stream(shares, f"{self.recipe.seed}/words", LEARNT))
            said = (
                "".join(text for text, _ in parts)
                for conversation in islice(conversations, self.recipe.tokenizer_conversations)
                for parts in texts(conversation, self.renderer)
            )
            self.work.mkdir(parents=True, exist_ok=True)
            tokenizer.train(said, self.renderer, size=self.recipe.vocabulary).save(str(file))
        return Tokenizer.from_file(str(file))
