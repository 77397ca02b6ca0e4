"""Rules for model families, against transformers on a tiny random checkpoint that transformers wrote.

The model is driven through its layers, operators and attention backend as core would assemble them, without the
engine: whatever differs is the model's doing.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from openlathe.checkpoint import read_config
from openlathe.engine.weights import load_model
from openlathe.layers.attention import attention_layers
from openlathe.layers.context import build_context
from openlathe.layers.weights import WeightMap
from openlathe.plugins.registry import Registry
from openlathe.plugins.resolve import load
from openlathe.spi import CheckpointError, ModelConfig, ModelSpec, Provider

from ..checkpoints.random_weights import legacy_layout
from ..harness.model import ModelBench, Running, copied, plan_for, reference_logits, reference_model, write_tiny
from ..inspection.members import missing_members

#: Largest difference of a log probability from the reference's, in float32.
LOGPROB_TOLERANCE = 1e-4
#: A differing greedy token is excused where the reference's own choice was this close.
TIE = 1e-3
LENGTHS = (1, 13, 40)


# -- what it says -------------------------------------------------------------------------------------------------


def test_the_configuration_is_what_core_asks_for(provider: Provider) -> None:
    """``config`` follows ``ModelConfig``, fields included."""
    config = load(_spec(provider).config)
    assert not list(missing_members(config, ModelConfig))
    fields = (
        {item.name for item in dataclasses.fields(config)} if dataclasses.is_dataclass(config) else set(dir(config))
    )
    absent = set(ModelConfig.__annotations__) - fields
    assert not absent, f"{_spec(provider).config} has no {', '.join(sorted(absent))}"


def test_the_providers_it_names_are_installed(provider: Provider, openlathe_registry: Registry) -> None:
    """Its parsers and template come with it, through its distribution's requirements."""
    spec = _spec(provider)
    for kind in ("tool-parser", "reasoning-parser", "chat-template"):
        if name := getattr(spec, kind.replace("-", "_")):
            assert openlathe_registry.get(kind, name)


def test_both_layouts_of_the_configuration(provider: Provider) -> None:
    """``rope_theta``, ``rope_scaling``, ``torch_dtype`` say what ``rope_parameters`` and ``dtype`` say."""
    new = read_config(write_tiny(provider))
    config = load(_spec(provider).config)
    assert config.from_hf(legacy_layout(new)) == config.from_hf(new)


def test_every_layer_has_its_cache(provider: Provider, openlathe_registry: Registry) -> None:
    """``kv_specs`` has one entry a layer, and each attention layer of the model is in it."""
    plan = plan_for(provider, openlathe_registry, write_tiny(provider))
    config = plan.model_config()
    assert len(config.kv_specs) == config.num_layers
    indices = [layer.index for layer in attention_layers(ModelBench(plan).model)]
    assert len(set(indices)) == len(indices)
    assert set(indices) <= set(range(config.num_layers))


# -- what it computes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", LENGTHS)
def test_a_whole_prompt(provider: Provider, openlathe_registry: Registry, length: int) -> None:
    """A prompt in one step has the logits that transformers gives each of its tokens."""
    bench, check = _beside_transformers(provider, openlathe_registry)
    tokens = _tokens(bench, length)
    (logits,) = bench.step([(bench.sequence(), tokens)])
    check(logits, tokens)


@pytest.mark.parametrize("chunk", [1, 7, 8, 32])
def test_a_prompt_in_chunks(provider: Provider, openlathe_registry: Registry, chunk: int) -> None:
    """In chunks of any size, down to token by token, it has the same logits."""
    bench, check = _beside_transformers(provider, openlathe_registry)
    tokens, sequence = _tokens(bench, 40), bench.sequence()
    parts = [bench.step([(sequence, tokens[at : at + chunk])])[0] for at in range(0, len(tokens), chunk)]
    check(torch.cat(parts), tokens)


def test_several_sequences_in_a_batch(provider: Provider, openlathe_registry: Registry) -> None:
    """Prompts, chunks and single tokens of several sequences in one step do not see each other."""
    bench, check = _beside_transformers(provider, openlathe_registry)
    prompts = [_tokens(bench, length, seed=length) for length in (30, 9, 21)]
    runs = [bench.sequence() for _ in prompts]
    done: list[list[Tensor]] = [[] for _ in prompts]
    for sizes in ((10, 0, 5), (1, 9, 15), (19, 0, 1)):
        work = [(index, size) for index, size in enumerate(sizes) if size]
        starts = [runs[index].length for index, _ in work]
        step = [(runs[i], prompts[i][at : at + size]) for (i, size), at in zip(work, starts, strict=True)]
        for (index, _), logits in zip(work, bench.step(step), strict=True):
            done[index].append(logits)
    for parts, prompt in zip(done, prompts, strict=True):
        check(torch.cat(parts), prompt)


def test_embeddings_instead_of_tokens(provider: Provider, openlathe_registry: Registry) -> None:
    """``inputs_embeds`` takes the place of ``input_ids``."""
    checkpoint = write_tiny(provider)
    bench, check = _beside_transformers(provider, openlathe_registry)
    embed = reference_model(provider, checkpoint).get_input_embeddings().to(bench.device)
    tokens = _tokens(bench, 20)
    (logits,) = bench.step([(bench.sequence(), tokens)], embeddings=embed)
    check(logits, tokens)


def test_greedy_tokens(provider: Provider, openlathe_registry: Registry) -> None:
    """The tokens are those transformers chooses, each of several sequences decoded in one batch."""
    checkpoint = write_tiny(provider)
    bench, reference = _bench(provider, openlathe_registry, checkpoint), reference_model(provider, checkpoint)
    texts = [_tokens(bench, length, seed=length) for length in LENGTHS]
    starts = [len(text) for text in texts]
    runs = [bench.sequence() for _ in texts]
    fed: list[tuple[Running, list[int]]] = list(zip(runs, texts, strict=True))
    for _ in range(24):
        chosen = [int(logits[-1].argmax()) for logits in bench.step(fed)]
        texts = [[*text, token] for text, token in zip(texts, chosen, strict=True)]
        fed = [(run, [token]) for run, token in zip(runs, chosen, strict=True)]
    for text, start in zip(texts, starts, strict=True):
        logits = reference_logits(reference, text)[start - 1 : -1]
        behind = logits.max(dim=-1).values - logits.gather(1, torch.tensor(text[start:])[:, None])[:, 0]
        assert behind.max() < TIE, f"token {int(behind.argmax())} lies {behind.max():.3g} behind the reference's"


def test_in_bfloat16(provider: Provider, openlathe_registry: Registry) -> None:
    """In bfloat16 it strays from float32 no further than thrice as far as transformers does."""
    checkpoint = write_tiny(provider, dtype="bfloat16")
    bench = _bench(provider, openlathe_registry, checkpoint, "bfloat16")
    tokens = _tokens(bench, 40)
    exact = reference_logits(reference_model(provider, checkpoint), tokens)
    theirs = reference_logits(reference_model(provider, checkpoint, "bfloat16"), tokens)
    (ours,) = bench.step([(bench.sequence(), tokens)])
    assert _distance(ours, exact) <= 3 * _distance(theirs, exact)


# -- how it is loaded ---------------------------------------------------------------------------------------------


def test_tied_and_untied_heads(provider: Provider, openlathe_registry: Registry) -> None:
    """A head of its own and one that shares the embedding's weight."""
    tiny = read_config(write_tiny(provider))
    if "tie_word_embeddings" not in tiny:
        pytest.skip("the family ties nothing")
    changes = {"tie_word_embeddings": not tiny["tie_word_embeddings"]}
    bench, check = _beside_transformers(provider, openlathe_registry, changes=changes)
    tokens = _tokens(bench, 20)
    (logits,) = bench.step([(bench.sequence(), tokens)])
    check(logits, tokens)


def test_every_tensor_is_used(provider: Provider, openlathe_registry: Registry) -> None:
    """No weight of the checkpoint is declared unneeded, and no parameter of the model is left without a value."""
    checkpoint = write_tiny(provider)
    model = ModelBench(plan_for(provider, openlathe_registry, checkpoint)).model
    names: WeightMap = getattr(model, "weights", WeightMap())
    parameters = {name for name, _ in reference_model(provider, checkpoint).named_parameters()}
    skipped = [name for name in parameters if names.is_skipped(name)]
    assert not skipped, f"skips {', '.join(sorted(skipped))}"
    empty = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    assert not empty, f"{', '.join(empty)} got no value"


def test_a_missing_tensor_is_refused(provider: Provider, openlathe_registry: Registry, tmp_path: Path) -> None:
    """By its name in the checkpoint."""

    def drop(tensors: dict[str, Tensor], name: str) -> str:
        del tensors[name]
        return name

    _refuses(provider, openlathe_registry, tmp_path, drop)


def test_an_unknown_tensor_is_refused(provider: Provider, openlathe_registry: Registry, tmp_path: Path) -> None:
    """By its name: weights that nothing takes are weights of another model."""

    def add(tensors: dict[str, Tensor], name: str) -> str:
        stray = f"{name.rpartition('.')[0]}.stray.weight"
        tensors[stray] = torch.ones(3)
        return stray

    _refuses(provider, openlathe_registry, tmp_path, add)


def test_a_misshapen_tensor_is_refused(provider: Provider, openlathe_registry: Registry, tmp_path: Path) -> None:
    """By its name, also where it could be broadcast."""

    def squeeze(tensors: dict[str, Tensor], name: str) -> str:
        tensors[name] = tensors[name][:1].clone()
        return name

    _refuses(provider, openlathe_registry, tmp_path, squeeze)


# -- how the rules look -------------------------------------------------------------------------------------------


def _bench(provider: Provider, registry: Registry, checkpoint: Path, dtype: str = "float32") -> ModelBench:
    return ModelBench(plan_for(provider, registry, checkpoint, dtype))


def _beside_transformers(
    provider: Provider, registry: Registry, **options: Any
) -> tuple[ModelBench, Callable[[Tensor, list[int]], None]]:
    """The model, and a comparison of logits [n, V] for n tokens with transformers'."""
    checkpoint = write_tiny(provider, **options)
    reference = reference_model(provider, checkpoint)

    def check(logits: Tensor, tokens: list[int]) -> None:
        ours, theirs = (x.log_softmax(dim=-1) for x in (logits, reference_logits(reference, tokens)))
        assert ours.shape == theirs.shape
        difference = (ours - theirs).abs().amax(dim=-1).nan_to_num(torch.inf)
        worst = int(difference.argmax())
        assert difference[worst] < LOGPROB_TOLERANCE, f"at token {worst} they differ by {difference[worst]:.3g}"

    return _bench(provider, registry, checkpoint), check


def _tokens(bench: ModelBench, count: int, seed: int = 0) -> list[int]:
    return random.Random(seed).choices(range(bench.plan.model_config().vocab_size), k=count)


def _distance(logits: Tensor, exact: Tensor) -> float:
    return (logits - exact).square().mean().sqrt().item()


def _refuses(
    provider: Provider, registry: Registry, folder: Path, damage: Callable[[dict[str, Tensor], str], str]
) -> None:
    """``damage(tensors, name)`` changes one tensor and answers with the name that the error must hold."""
    whole = load_file(write_tiny(provider) / "model.safetensors")
    for number, name in enumerate(_samples(sorted(whole))):
        checkpoint = copied(write_tiny(provider), folder / str(number))
        tensors = dict(whole)
        culprit = damage(tensors, name)
        save_file(tensors, checkpoint / "model.safetensors", metadata={"format": "pt"})
        plan = plan_for(provider, registry, checkpoint)
        with pytest.raises(CheckpointError) as caught:
            load_model(plan, build_context(plan))
        assert culprit in str(caught.value), f"{caught.value} does not name {culprit}"


def _samples(names: list[str]) -> list[str]:
    """The first layer's tensors, and those outside of layers."""
    return [name for name in names if ".layers." not in name or ".layers.0." in name]


def _spec(provider: Provider) -> ModelSpec:
    assert isinstance(provider.spec, ModelSpec)
    return provider.spec
