"""Packed weights on disk: the same weights again, for the same content alone, and never from a damaged file."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from openlathe.config import EngineConfig
from openlathe.engine.packed_cache import PackedCache, key_of
from openlathe.engine.packed_file import PackedFile, PackedWriter, StoredModule, Unusable
from openlathe.engine.weights import load_model, weight_facts
from openlathe.kernels.linear import Gate
from openlathe.kernels.silu_mul import silu_mul
from openlathe.layers.context import build_context
from openlathe.layers.linear import MergedLinear
from openlathe.plugins.assemble import assemble
from openlathe.plugins.plan import Plan, make_plan
from openlathe.spi import ConfigError
from openlathe_sdk.checkpoints import tiny_qwen3

#: How often a weight was packed, and what the packed ones say of themselves.
PACKED: list[tuple[int, ...]] = []
LAYOUT = ["first"]


class Turned:
    """A packed weight that is its transpose, and gates what it multiplies."""

    weight: Tensor | None = None

    def __init__(self, turned: Tensor, bias: Tensor | None, gated: bool) -> None:
        self.turned, self.bias, self.gated = turned, bias, gated
        self.nbytes = turned.nbytes

    def __call__(self, x: Tensor) -> Tensor:
        y = x @ self.turned
        y = y if self.bias is None else y + self.bias
        return silu_mul(y) if self.gated else y

    @classmethod
    def layout(cls) -> str:
        return LAYOUT[0]

    def stored(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        return {"gated": self.gated}, {"turned": self.turned} | ({} if self.bias is None else {"bias": self.bias})

    @classmethod
    def restored(cls, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Self:
        return cls(tensors["turned"], tensors.get("bias"), facts["gated"])


def turned_linear(weight: Tensor, bias: Tensor | None = None, gate: Gate | None = None) -> Turned:
    PACKED.append(tuple(weight.shape))
    return Turned(weight.T.contiguous(), bias, gate is not None)


@pytest.fixture(autouse=True)
def fresh() -> None:
    PACKED.clear()
    LAYOUT[0] = "first"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return tiny_qwen3(tmp_path / "model")


def plan_of(checkpoint: Path, folder: Path | None, **settings: Any) -> Plan:
    """A plan whose linear layers are multiplied by :func:`turned_linear`."""
    where = {} if folder is None else {"packed_cache_dir": str(folder)}
    plan = make_plan(EngineConfig(model=str(checkpoint), device="cpu", **where, **settings), assemble())
    ours = replace(plan.choices["kernel.linear"], target=f"{__name__}:turned_linear")
    return replace(plan, choices={**plan.choices, "kernel.linear": ours})


def load(plan: Plan) -> nn.Module:
    return load_model(plan, build_context(plan))


def weights(model: nn.Module) -> dict[str, Tensor]:
    packed = {name: m.packed for name, m in model.named_modules() if hasattr(m, "packed")}
    return {**dict(model.named_parameters()), **{name: weight.turned for name, weight in packed.items()}}


def assert_same(one: nn.Module, other: nn.Module) -> None:
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


def change(checkpoint: Path, name: str, edit: Callable[[Tensor], Tensor]) -> None:
    file = checkpoint / "model.safetensors"
    content = load_file(file)
    save_file({**content, name: edit(content[name])}, file)


# -- what is kept -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tied", [False, True])
def test_the_second_start_packs_nothing_and_has_the_same_weights(tmp_path: Path, tied: bool) -> None:
    checkpoint, cache = tiny_qwen3(tmp_path / "model", tie=tied), tmp_path / "cache"
    plain = load(plan_of(checkpoint, None))
    count = len(PACKED)
    first = load(plan_of(checkpoint, cache))
    assert len(PACKED) == 2 * count > 0
    second = load(plan_of(checkpoint, cache))
    assert len(PACKED) == 2 * count
    assert_same(plain, first)
    assert_same(plain, second)
    assert weight_facts(second) == weight_facts(plain)
    assert not [name for name, _ in second.named_parameters() if "_proj" in name]
    gates = [module.packed.gated for module in second.modules() if isinstance(module, MergedLinear)]
    assert gates == [True] * 2
    assert all(module.gate is None for module in second.modules() if isinstance(module, MergedLinear))
    assert [file.suffix for file in cache.iterdir()] == [".packed"]


def test_without_the_setting_nothing_is_written(checkpoint: Path, tmp_path: Path) -> None:
    before = set(tmp_path.rglob("*"))
    load(plan_of(checkpoint, None))
    assert set(tmp_path.rglob("*")) == before


def test_random_weights_are_not_kept(checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    load(plan_of(checkpoint, tmp_path / "cache", load_format="dummy"))
    assert not (tmp_path / "cache").exists()
    assert "--packed-cache-dir is without effect" in caplog.text


def test_weights_that_no_operator_can_keep_are_packed_every_time(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    plan = plan_of(checkpoint, tmp_path)
    reference = replace(plan.choices["kernel.linear"], target="openlathe.kernels.linear:linear")
    plan = replace(plan, choices={**plan.choices, "kernel.linear": reference})
    for _ in range(2):
        load(plan)
    assert "can be kept" in caplog.text


# -- keys ---------------------------------------------------------------------------------------------------------


def test_the_key_does_not_depend_on_where_the_checkpoint_lies(tmp_path: Path) -> None:
    one, other = (plan_of(tiny_qwen3(tmp_path / name), tmp_path) for name in ("one", "other"))
    assert key_of(one) == key_of(other)


@pytest.mark.parametrize("name", ["model.layers.1.mlp.down_proj.weight", "model.norm.weight"])
def test_other_content_has_another_key(checkpoint: Path, tmp_path: Path, name: str) -> None:
    before = key_of(plan_of(checkpoint, tmp_path))
    change(checkpoint, name, lambda tensor: tensor + 1)
    assert key_of(plan_of(checkpoint, tmp_path)) != before


@pytest.mark.parametrize("settings", [{"dtype": "bfloat16"}, {"hf_overrides": {"rms_norm_eps": 0.5}}])
def test_another_use_has_another_key(checkpoint: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    assert key_of(plan_of(checkpoint, tmp_path, **settings)) != key_of(plan_of(checkpoint, tmp_path))


def test_another_provider_has_another_key(checkpoint: Path, tmp_path: Path) -> None:
    plan = plan_of(checkpoint, tmp_path)
    newer = replace(plan.choices["kernel.linear"], version="1000")
    assert key_of(replace(plan, choices={**plan.choices, "kernel.linear": newer})) != key_of(plan)


# -- files that are not what was written ------------------------------------------------------------------------------


def cut(content: bytes) -> bytes:
    return content[:-1]


def halved(content: bytes) -> bytes:
    return content[: len(content) // 2]


def emptied(content: bytes) -> bytes:
    return b""


def zeroed(content: bytes) -> bytes:
    return bytes(len(content) - 4096) + content[-4096:]


def with_another_list(content: bytes) -> bytes:
    return content.replace(b'"bfloat16"', b'"float16 "').replace(b'"float32"', b'"float64"')


def of_another_format(content: bytes) -> bytes:
    return content[:-1] + b"9"


@pytest.mark.parametrize("damage", [cut, halved, emptied, zeroed, with_another_list, of_another_format])
def test_a_damaged_file_is_written_anew(
    checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    plan = plan_of(checkpoint, tmp_path / "cache")
    whole = load(plan)
    file = PackedCache(plan).path
    content = file.read_bytes()
    damaged = damage(content)
    assert damaged != content
    del whole
    file.unlink()
    file.write_bytes(damaged)
    PACKED.clear()
    assert_same(load(plan), load(plan_of(checkpoint, None)))
    assert PACKED
    assert "it is written anew" in caplog.text
    assert file.read_bytes() == content


def test_another_layout_is_packed_anew(checkpoint: Path, tmp_path: Path) -> None:
    plan = plan_of(checkpoint, tmp_path / "cache")
    load(plan)
    count = len(PACKED)
    LAYOUT[0] = "second"
    load(plan)
    load(plan)
    assert len(PACKED) == 2 * count


def test_weights_of_strangers_are_not_loaded(checkpoint: Path, tmp_path: Path) -> None:
    """A file may name a class, but only of packages that this engine is made of."""
    plan = plan_of(checkpoint, tmp_path / "cache")
    load(plan)
    file = PackedCache(plan).path
    writer = PackedWriter(file)
    entry = StoredModule(target="os:system", layout="", facts={})
    writer.add("lm_head", entry, {})
    writer.finish()
    count = len(PACKED)
    load(plan)
    assert len(PACKED) == 2 * count


def test_where_nothing_can_be_written_the_start_says_so(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="--packed-cache-dir"):
        load(plan_of(checkpoint, tmp_path / "file"))


def test_an_interrupted_start_leaves_no_file(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: PackedWriter, data: memoryview) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(PackedWriter, "_write", full)
    with pytest.raises(ConfigError, match="No space left"):
        load(plan_of(checkpoint, tmp_path / "cache"))
    assert not list((tmp_path / "cache").iterdir())


# -- the file -----------------------------------------------------------------------------------------------------


def test_tensors_of_any_type_come_back_page_by_page(tmp_path: Path) -> None:
    source = {
        "a": torch.arange(5, dtype=torch.int32),
        "b": torch.randn(3, 7).bfloat16(),
        "c": torch.randint(0, 255, (5000,), dtype=torch.uint8),
        "d": torch.empty(0, 4),
    }
    writer = PackedWriter(tmp_path / "a.packed")
    writer.add("module", StoredModule(target="a:B", layout="l", facts={"n": 3}), source)
    writer.finish()
    file = PackedFile(tmp_path / "a.packed")
    assert file.modules["module"].facts == {"n": 3}
    tensors = file.tensors("module")
    assert all(torch.equal(tensors[name], tensor) for name, tensor in source.items())
    assert all(tensors[name].data_ptr() % 4096 == 0 for name in "abc")


def test_damaged_weights_are_seen_at_either_end(tmp_path: Path) -> None:
    path = tmp_path / "a.packed"
    for at in (0, 79_999):
        writer = PackedWriter(path)
        writer.add("m", StoredModule(target="a:B", layout="l", facts={}), {"w": torch.ones(20_000)})
        writer.finish()
        content = bytearray(path.read_bytes())
        content[at] ^= 1
        path.write_bytes(content)
        with pytest.raises(Unusable, match="damaged weights"):
            PackedFile(path).tensors("m")
