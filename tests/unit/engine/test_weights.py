"""Loading: every tensor accounted for, whatever the files look like, and never two copies in memory."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from openlathe.config import EngineConfig
from openlathe.engine.weights import load_model, weight_facts
from openlathe.kernels import Gate, Operators
from openlathe.layers.context import BuildContext, build_context
from openlathe.plugins.assemble import assemble
from openlathe.plugins.plan import Plan, make_plan
from openlathe.spi import CheckpointError
from openlathe_sdk.checkpoints import tiny_qwen3


def plan_of(path: Path, **settings: Any) -> Plan:
    return make_plan(EngineConfig(model=str(path), device="cpu", **settings), assemble())


def load(path: Path, context: BuildContext | None = None, **settings: Any) -> nn.Module:
    return load_model(plan_of(path, **settings), context or BuildContext(max_model_len=64))


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """All weights by our names, those of linear layers included."""
    packed = {f"{path}.weight": m.packed.weight for path, m in model.named_modules() if hasattr(m, "packed")}
    return {**dict(model.named_parameters()), **packed}


def assert_same(one: nn.Module, other: nn.Module) -> None:
    mine, theirs = tensors_of(one), tensors_of(other)
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A tiny checkpoint of one's own, to be damaged."""
    return tiny_qwen3(tmp_path / "model")


def change(path: Path, **tensors: Tensor | None) -> None:
    """Writes the checkpoint's tensors again, some replaced or (None) left out; ``__`` stands for a dot."""
    file = path / "model.safetensors"
    content: dict[str, Any] = load_file(file) | {name.replace("__", "."): t for name, t in tensors.items()}
    save_file({name: tensor for name, tensor in content.items() if tensor is not None}, file)


# -- what is read -------------------------------------------------------------------------------------------------


def test_fused_parameters_hold_the_checkpoints_tensors(tiny_checkpoint: Path) -> None:
    tensors = tensors_of(load(tiny_checkpoint))
    source = load_file(tiny_checkpoint / "model.safetensors")
    for layer in range(2):
        at = f"model.layers.{layer}"
        qkv = torch.cat([source[f"{at}.self_attn.{part}_proj.weight"] for part in "qkv"])
        assert torch.equal(tensors[f"{at}.self_attn.qkv_proj.weight"], qkv)
        gate_up = torch.cat([source[f"{at}.mlp.{part}_proj.weight"] for part in ("gate", "up")])
        assert torch.equal(tensors[f"{at}.mlp.gate_up_proj.weight"], gate_up)
    assert torch.equal(tensors["lm_head.weight"], source["lm_head.weight"])


def join_qkv(path: Path, rows: int | None = None) -> None:
    """Layer 0's projections of queries, keys and values as one tensor, of which ``rows`` are left."""
    source = load_file(path / "model.safetensors")
    names = [f"model.layers.0.self_attn.{part}_proj.weight" for part in "qkv"]
    joint = {"model.layers.0.self_attn.qkv_proj.weight": torch.cat([source[name] for name in names])[:rows].clone()}
    change(path, **dict.fromkeys(names), **joint)


def test_a_checkpoint_may_hold_a_fused_parameter_in_one_piece(checkpoint: Path, tiny_checkpoint: Path) -> None:
    join_qkv(checkpoint)
    assert_same(load(checkpoint), load(tiny_checkpoint))


def test_a_fused_parameter_of_another_size_is_refused(checkpoint: Path) -> None:
    join_qkv(checkpoint, rows=-1)
    with pytest.raises(CheckpointError, match=r"qkv_proj.weight has shape \[\d+, 64\] where .* asks for \[\d+, 64\]"):
        load(checkpoint)


def test_shards_and_a_single_file_load_equally(tiny_checkpoint: Path, tmp_path: Path) -> None:
    sharded = tiny_qwen3(tmp_path / "sharded", max_shard_size="100KB")
    assert len(list(sharded.glob("*.safetensors"))) > 2
    assert_same(load(sharded), load(tiny_checkpoint))


def test_several_files_need_no_index(tiny_checkpoint: Path, tmp_path: Path) -> None:
    sharded = tiny_qwen3(tmp_path / "sharded", max_shard_size="100KB")
    (sharded / "model.safetensors.index.json").unlink()
    assert_same(load(sharded), load(tiny_checkpoint))


def test_a_tied_head_is_the_embedding() -> None:
    model = load(tiny_qwen3(tie=True))
    tensors = tensors_of(model)
    assert tensors["lm_head.weight"].data_ptr() == tensors["model.embed_tokens.weight"].data_ptr()


@pytest.mark.parametrize("differs", [False, True])
def test_a_tied_checkpoint_may_hold_a_spare_head(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, differs: bool
) -> None:
    """The embedding is used, as transformers does; that the spare one was another is said."""
    path = tiny_qwen3(tmp_path / "tied", tie=True)
    embedding = load_file(path / "model.safetensors")["model.embed_tokens.weight"]
    change(path, lm_head__weight=embedding + differs)
    assert_same(load(path), load(tiny_qwen3(tie=True)))
    told = "The checkpoint's lm_head.weight is not its model.embed_tokens.weight"
    assert (told in caplog.text) == differs


def test_a_model_may_read_its_checkpoint_itself(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted for other models is then its own business, but for files that are not whole."""

    class Own(nn.Module):
        def __init__(self, config: Any, context: BuildContext) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def load_checkpoint(self, path: Path | None) -> None:
            self.path = path

    seen: list[tuple[int, int]] = []
    plan, dummy = plan_of(tiny_checkpoint), plan_of(tiny_checkpoint, load_format="dummy")
    monkeypatch.setattr(Plan, "resolve", lambda self, slot: Own)
    model = load_model(plan, BuildContext(), lambda *step: seen.append(step))
    assert model.path == tiny_checkpoint
    assert not model.training
    assert not next(model.parameters()).requires_grad
    assert seen[-1][0] == seen[-1][1] > 0
    assert load_model(dummy, BuildContext()).path is None


def test_tensors_that_are_computed_here_are_skipped(checkpoint: Path) -> None:
    change(checkpoint, model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(16))
    load(checkpoint)


def test_weights_are_converted_while_they_are_read(tiny_checkpoint: Path) -> None:
    narrow = tensors_of(load(tiny_checkpoint, BuildContext(dtype=torch.bfloat16, max_model_len=64)))
    for name, tensor in tensors_of(load(tiny_checkpoint)).items():
        assert torch.equal(narrow[name], tensor.bfloat16()), name


def test_progress_counts_every_byte(tiny_checkpoint: Path) -> None:
    seen: list[tuple[int, int]] = []
    load_model(plan_of(tiny_checkpoint), BuildContext(max_model_len=64), lambda *step: seen.append(step))
    total = sum(tensor.nbytes for tensor in load_file(tiny_checkpoint / "model.safetensors").values())
    assert {of for _, of in seen} == {total}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (total, total)


def test_dummy_weights_need_no_files_and_depend_on_the_seed(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    one, same, other = (load(checkpoint, load_format="dummy", seed=seed) for seed in (1, 1, 2))
    assert_same(one, same)
    mine, theirs = tensors_of(one), tensors_of(other)
    assert not torch.equal(mine["model.embed_tokens.weight"], theirs["model.embed_tokens.weight"])
    assert mine["lm_head.weight"].std() == pytest.approx(0.02, rel=0.05)
    assert torch.equal(mine["model.norm.weight"], torch.ones(64))


# -- what is refused ----------------------------------------------------------------------------------------------

HEAD = "model__layers__1__self_attn__k_proj__weight"
HEAD_NAME = HEAD.replace("__", ".")


@pytest.mark.parametrize(
    "tensors, told",
    [
        ({HEAD: None}, f"lacks the tensor {HEAD_NAME}, which Qwen3ForCausalLM needs"),
        ({HEAD: None, "model__norm__weight": None}, "and 1 more, which"),
        ({"model__extra__weight": torch.zeros(3)}, "holds the tensor model.extra.weight, for which Qwen3ForCausalLM"),
        ({HEAD: torch.zeros(64, 63)}, rf"tensor {HEAD_NAME} has shape \[64, 63\] where the configuration asks for"),
        ({"model__norm__weight": torch.zeros(1)}, r"model.norm.weight has shape \[1\] where"),
        ({HEAD: torch.zeros(64, 64, dtype=torch.int8)}, f"{HEAD_NAME} is of type int8, which needs a quantization"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(checkpoint: Path, tensors: dict[str, Any], told: str) -> None:
    change(checkpoint, **tensors)
    with pytest.raises(CheckpointError, match=told):
        load(checkpoint)


def test_a_tensor_held_twice_is_refused(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "one.safetensors")
    save_file({"model.norm.weight": torch.ones(64)}, checkpoint / "two.safetensors")
    with pytest.raises(CheckpointError, match=r"holds the tensor model\.norm\.weight more than once"):
        load(checkpoint)


def test_a_file_cut_short_is_refused(checkpoint: Path) -> None:
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"model\.safetensors has \d+ bytes where its header promises"):
        load(checkpoint)


def test_weights_of_another_size_are_refused(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3, "layer_types": None}))
    with pytest.raises(CheckpointError, match=r"lacks the tensor model\.layers\.2\.\S+ and \d+ more"):
        load(checkpoint)


# -- memory -------------------------------------------------------------------------------------------------------


class Repacked:
    """A linear that keeps a copy of its own, as packed formats do."""

    weight = None

    def __init__(self, weight: Tensor, bias: Tensor | None, gate: Gate | None = None) -> None:
        self.copy = weight.clone()
        self.nbytes = weight.nbytes
        self.gate = gate

    def __call__(self, x: Tensor) -> Tensor:
        y = x @ self.copy.T
        return y if self.gate is None else self.gate(y)


@pytest.mark.parametrize("tie", [False, True])
def test_facts_count_a_repacked_tied_head_apart(tie: bool) -> None:
    path = tiny_qwen3(tie=tie)
    own_bytes = sum(tensor.nbytes for tensor in load_file(path / "model.safetensors").values())
    plain = load(path)
    assert weight_facts(plain) == {"weight_bytes": own_bytes, "packed_head_bytes": 0}

    packed = load(path, BuildContext(max_model_len=64, operators=Operators(linear=Repacked)))
    head_bytes = tensors_of(plain)["lm_head.weight"].nbytes if tie else 0
    assert weight_facts(packed) == {"weight_bytes": own_bytes, "packed_head_bytes": head_bytes}


def test_the_context_of_a_plan_holds_what_it_chose(tiny_checkpoint: Path) -> None:
    plan = plan_of(tiny_checkpoint, kernels={"rms_norm": "reference-rms-norm"}, dtype="bfloat16")
    context = build_context(plan)
    assert context.operators.rms_norm is plan.resolve("kernel.rms_norm")
    assert context.operators.rms_norm.__module__ == "openlathe.kernels.rms_norm"
    assert (context.dtype, context.kv_dtype, context.block_size) == (torch.bfloat16, torch.bfloat16, 16)
    assert type(context.linear_method) is plan.resolve("linear")


PEAK = textwrap.dedent(
    """
    import sys, threading, time

    def anonymous():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon"))

    import torch
    from openlathe.config import EngineConfig
    from openlathe.engine.weights import load_model, weight_facts
    from openlathe.layers.context import build_context
    from openlathe.plugins.assemble import assemble
    from openlathe.plugins.plan import make_plan

    plan = make_plan(EngineConfig(model=sys.argv[1], device="cpu", max_model_len=64), assemble())
    context = build_context(plan)
    plan.resolve("model")
    context.operators.linear(torch.zeros(64, 64, dtype=context.dtype), None)  # whatever libraries set up once
    before, peak, done = anonymous(), 0, False

    def watch():
        global peak
        while not done:
            peak = max(peak, anonymous())
            time.sleep(0.0005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    model = load_model(plan, context)
    done = True
    watcher.join()
    facts = weight_facts(model)
    print(max(peak, anonymous()) - before, facts["weight_bytes"], facts["packed_head_bytes"])
    """
)


@pytest.mark.skipif(sys.platform != "linux", reason="anonymous memory is read from /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_anonymous_memory_stays_below_twelve_tenths_of_the_weights(tmp_path: Path, dtype: str) -> None:
    """Some 180 MB of weights, mapped from their file, copied and packed one layer at a time."""
    path = tiny_qwen3(
        tmp_path, dtype=dtype, tie=True, layers=10 if dtype == "float32" else 20, hidden_size=768, heads=12, kv_heads=4,
        head_dim=64,
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
    peak, weight_bytes, packed_head_bytes = map(int, done.stdout.split())
    assert weight_bytes > 150e6
    assert peak <= 1.2 * weight_bytes + packed_head_bytes


class Halves:
    """Unpacks tensors that were cut in two: ``NAME.low`` and ``NAME.high`` are rows of ``NAME``."""

    def __init__(self, settings: Any) -> None:
        self.order = settings["order"]

    def groups(self, names: Any) -> dict[str, dict[str, str]]:
        whole = {name.removesuffix(".low") for name in names if name.endswith(".low")}
        return {name: {role: f"{name}.{role}" for role in self.order} for name in whole}

    def unpack(self, parts: Any, dtype: torch.dtype) -> Tensor:
        return torch.cat([parts[role] for role in self.order]).to(dtype)


def torn(unpacker: Halves, parts: Any, dtype: torch.dtype) -> Tensor:
    raise CheckpointError("It is torn.")


def test_packed_tensors_are_unpacked_as_they_are_read(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their parts may lie in different files, in any order; a part that is missing is refused by the whole's name."""
    plain = load(checkpoint)
    tensors = load_file(checkpoint / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    low, high = tensors.pop(name).chunk(2)
    save_file({f"{name}.high": high.clone()}, checkpoint / "a.safetensors")
    save_file(tensors | {f"{name}.low": low.clone()}, checkpoint / "b.safetensors")
    (checkpoint / "model.safetensors").unlink()
    monkeypatch.setattr("openlathe.engine.weights._unpacker", lambda plan: Halves({"order": ("low", "high")}))
    assert_same(load(checkpoint), plain)
    monkeypatch.setattr(Halves, "unpack", torn)
    with pytest.raises(CheckpointError, match=f"tensor {name} cannot be unpacked: It is torn."):
        load(checkpoint)
    (checkpoint / "a.safetensors").unlink()
    with pytest.raises(CheckpointError, match=name):
        load(checkpoint)
