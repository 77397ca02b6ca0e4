"""The plan of a made-up model family: what is chosen for each slot, its limits, its notes, and its JSON."""

from __future__ import annotations

import json

import pytest

from openlathe.checkpoint import with_model
from openlathe.config import EngineConfig
from openlathe.plugins import plan as plan_module
from openlathe.plugins.plan import KVGroup, Plan, make_plan
from openlathe.spi import MLAKV, CheckpointError, ConfigError, DeviceFacts, FullKV, PluginError, SlidingKV, StateKV

MODEL = """
from dataclasses import dataclass
from openlathe.spi import *

@dataclass
class Config:
    vocab_size: int = 100
    hidden_size: int = 64
    num_layers: int = 2
    num_heads: int = 4
    max_position_embeddings: int = 1024
    dtype: str = "bfloat16"
    layers: tuple = ()

    @classmethod
    def from_hf(cls, config):
        if "unserved" in config:
            raise CheckpointError("config.json has unserved = true, which Acme cannot serve.")
        layers = config.get("layers", ["FullKV(kv_heads=2, dim_k=16, dim_v=16)"] * 2)
        return cls(layers=tuple(map(eval, layers)))

    @property
    def kv_specs(self):
        return self.layers

    @property
    def attention_features(self):
        return frozenset()

@hookimpl
def openlathe_models():
    target = "PACKAGE.plugin:Config"
    yield ModelSpec(name="acme", architectures=("AcmeForCausalLM",), target=target, config=targetFIELDS)
"""
ATTENTION = """AttentionBackendSpec(
        name="acme", target="a:b", kv=("FullKV", "SlidingKV", "MLAKV"), features=frozenset({"sliding_window"})
    )"""
CAREFUL = """
@hookimpl
def openlathe_configure(config):
    if config["max_num_seqs"] > 64:
        raise ConfigError("acme: at most 64.")
"""


class Workbench:
    """A checkpoint directory and the plugins of one test."""

    def __init__(self, site, folder):
        self.site = site
        self.checkpoint = folder / "checkpoint"
        self.checkpoint.mkdir()
        self.write_config()
        site.add_specs("acme-attention", "openlathe_attention_backends", ATTENTION)

    def write_config(self, **config):
        content = {"architectures": ["AcmeForCausalLM"], "model_type": "acme", **config}
        (self.checkpoint / "config.json").write_text(json.dumps(content))

    def add_model(self, fields=""):
        package = self.site.add("acme-model", "")
        (self.site.folder / package / "plugin.py").write_text(
            MODEL.replace("PACKAGE", package).replace("FIELDS", fields)
        )

    def plan(self, offline=False, policy=None, **settings):
        config = EngineConfig(model=str(self.checkpoint), **{"device": "cpu", **settings})
        return make_plan(config, self.site.assemble(**(policy or {})), offline=offline)


@pytest.fixture
def bench(site, tmp_path):
    return Workbench(site, tmp_path)


@pytest.fixture
def acme(bench):
    bench.add_model()
    return bench


def test_every_slot_is_filled(acme):
    plan = acme.plan()
    assert {slot: choice.name for slot, choice in plan.choices.items()} == {
        "model": "acme",
        "executor": "uniproc",
        "linear": "none",
        "attention.0": "acme",
        **{f"kernel.{name}": f"reference-{name.replace('_', '-')}" for name in operators()},
    }
    assert plan.choices["attention.0"].distribution == "acme-attention"


def operators():
    from openlathe.kernels import OPERATORS

    return OPERATORS


def test_the_plan_survives_json(acme):
    acme.write_config(layers=["SlidingKV(kv_heads=1, dim_k=8, dim_v=8, window=4)", "StateKV(shape=(2, 3))"])
    plan = acme.plan(max_model_len=512, plugin_options={}, served_model_name=["a", "b"])
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


def test_the_token_that_fetched_the_model_stays_out_of_it(acme):
    plan = acme.plan(hf_token="hf_secret")
    assert plan.config.hf_token == "hf_secret"
    assert "hf_secret" not in json.dumps(plan.to_dict())


def test_layers_with_equal_specs_form_a_group(acme):
    full, sliding = "FullKV(kv_heads=2, dim_k=16, dim_v=16)", "SlidingKV(kv_heads=2, dim_k=16, dim_v=16, window=8)"
    acme.write_config(layers=[full, sliding, full, "StateKV(shape=(4,))", "MLAKV(latent=32, rope=8)"])
    plan = acme.plan()
    assert plan.kv_groups == (
        KVGroup(spec=FullKV(kv_heads=2, dim_k=16, dim_v=16), layers=(0, 2)),
        KVGroup(spec=SlidingKV(kv_heads=2, dim_k=16, dim_v=16, window=8), layers=(1,)),
        KVGroup(spec=StateKV(shape=(4,)), layers=(3,)),
        KVGroup(spec=MLAKV(latent=32, rope=8), layers=(4,)),
    )
    assert [slot for slot in plan.choices if slot.startswith("attention")] == [
        "attention.0",
        "attention.1",
        "attention.3",
    ]
    assert plan.kv_bytes_per_token == 2 * (2 * 64 + 64 + 40)  # bfloat16: two full layers, a sliding one, a latent


def test_a_layer_that_reads_the_cache_of_another_is_refused(acme):
    acme.write_config(layers=["FullKV(kv_heads=2, dim_k=16, dim_v=16)", "SharedWith(layer=0)"])
    with pytest.raises(CheckpointError, match="Layer 1 of this model reads the keys and values of layer 0, which"):
        acme.plan()


def test_groups_may_be_served_by_different_backends(acme):
    acme.write_config(layers=["FullKV(kv_heads=2, dim_k=16, dim_v=16)", "MLAKV(latent=32, rope=8)"])
    latent = "AttentionBackendSpec(name='latent', target='a:b', kv=('MLAKV',), priority=10)"
    acme.site.add_specs("acme-latent", "openlathe_attention_backends", latent)
    plan = acme.plan()
    assert [plan.choices[f"attention.{group}"].name for group in (0, 1)] == ["acme", "latent"]
    assert plan.choices["attention.0"].refused[0].reasons == ("KV spec FullKV is not among MLAKV",)


def test_auto_and_given_dtypes(acme):
    assert (acme.plan().dtype, acme.plan().kv_dtype) == ("bfloat16", "bfloat16")
    assert (acme.plan(dtype="float").dtype, acme.plan(dtype="half").kv_dtype) == ("float32", "float16")


def bundle(acme, distribution, name, *, default=False):
    """A distribution that brings a checkpoint; the checkpoint's directory."""
    spec = f"CheckpointSpec(name={name!r}, target='PACKAGE:data', default={default})"
    package = acme.site.add_specs(distribution, "openlathe_checkpoints", spec)
    file = acme.site.folder / package / "plugin.py"
    file.write_text(file.read_text().replace("PACKAGE", package))
    (file.parent / "data").mkdir()
    (file.parent / "data" / "config.json").write_text((acme.checkpoint / "config.json").read_text())
    return file.parent / "data"


def test_a_bundled_checkpoint_is_served_by_its_name(acme):
    data = bundle(acme, "bundle", "mini")
    for name in ("mini", "bundle/mini"):
        plan = make_plan(EngineConfig(model=name, device="cpu"), acme.site.assemble())
        assert plan.model_path == str(data)


def test_the_default_checkpoint_is_served_where_no_model_is_named(acme):
    bundle(acme, "one", "mini")
    with pytest.raises(ConfigError, match="No model was given: name a directory"):
        with_model(EngineConfig(), acme.site.assemble())
    bundle(acme, "two", "midi", default=True)
    assert with_model(EngineConfig(seed=3), acme.site.assemble()) == EngineConfig(model="midi", seed=3)
    assert with_model(EngineConfig(model="mini"), acme.site.assemble()).model == "mini"
    bundle(acme, "three", "maxi", default=True)
    with pytest.raises(ConfigError, match="maxi by three 1.0 and midi by two 1.0 are there to be served"):
        with_model(EngineConfig(), acme.site.assemble())


# -- limits -------------------------------------------------------------------------------------------------------


def sizes(plan):
    return plan.max_model_len, plan.max_num_seqs, plan.max_num_batched_tokens


def test_limits_come_from_the_model_the_device_and_the_use(acme, monkeypatch):
    assert sizes(acme.plan()) == (1024, 128, 256)
    assert sizes(acme.plan(offline=True)) == (1024, 256, 4096)
    monkeypatch.setattr(plan_module, "detect", lambda device: DeviceFacts(type="cuda"))
    assert sizes(acme.plan()) == (1024, 256, 8192)


def test_limits_that_were_given_hold(acme):
    assert sizes(acme.plan(max_model_len=100, max_num_seqs=3, max_num_batched_tokens=50)) == (100, 3, 50)


def test_one_step_size_follows_the_other(acme):
    assert sizes(acme.plan(max_num_batched_tokens=32)) == (1024, 32, 32)
    assert sizes(acme.plan(max_num_seqs=4096)) == (1024, 4096, 4096)
    with pytest.raises(ConfigError, match="--max-num-batched-tokens 8 is below --max-num-seqs 16"):
        acme.plan(max_num_batched_tokens=8, max_num_seqs=16)


def test_without_chunked_prefill_the_longest_prompt_fits_a_step(acme):
    acme.write_config()
    assert acme.plan(enable_chunked_prefill=False, max_model_len=1000).max_num_batched_tokens == 1000


def test_more_than_the_model_was_made_for_is_refused(acme):
    with pytest.raises(ConfigError, match="--max-model-len 1025 is above the 1024 positions"):
        acme.plan(max_model_len=1025)


# -- what is missing or wrong -------------------------------------------------------------------------------------


def test_without_torch_the_extra_is_named(acme, monkeypatch):
    monkeypatch.setattr(plan_module, "torch_installed", lambda: False)
    with pytest.raises(ConfigError, match=r'pip install "openlathe-core\[engine\]"'):
        acme.plan()


def test_no_attention_backend_that_can(acme):
    acme.write_config(layers=["EncoderOnly()"])
    with pytest.raises(PluginError, match=r"attention\.0; refused: acme-attention/acme \(KV spec EncoderOnly"):
        acme.plan()


def test_what_the_model_itself_refuses(acme):
    acme.write_config(unserved=True)
    with pytest.raises(CheckpointError, match="unserved = true"):
        acme.plan()


def test_a_quantised_checkpoint_needs_a_reader(acme):
    acme.write_config(quantization_config={"quant_method": "acme4"})
    with pytest.raises(CheckpointError, match="quantised with 'acme4', which no installed plugin reads"):
        acme.plan()
    acme.site.add_specs(
        "acme-quant",
        "openlathe_quantizations",
        "QuantizationSpec(name='a4', target='a:b', checkpoint_methods=('acme4',))",
    )
    assert acme.plan().choices["linear"].name == "a4"


@pytest.mark.parametrize("flag", [{}, {"quantization": "acme4"}, {"quantization": "fast8"}])
def test_a_quantised_checkpoint_may_be_unpacked(acme, flag):
    """Where nobody multiplies with it as it is, or another method is asked for, that takes the plain tensors."""
    acme.write_config(quantization_config={"quant_method": "acme4"})
    for spec in (
        "QuantizationSpec(name='acme4', target='a:unpack', checkpoint_methods=('acme4',), unpacks=True)",
        "QuantizationSpec(name='fast8', target='a:fast')",
    ):
        acme.site.add_specs(f"quant{len(spec)}", "openlathe_quantizations", spec)
    choices = acme.plan(**flag).choices
    assert choices["unpack"].target == "a:unpack"
    assert choices["linear"].name == ("fast8" if flag.get("quantization") == "fast8" else "none")


def test_an_unpacker_is_no_linear_method(acme):
    spec = "QuantizationSpec(name='acme4', target='a:b', checkpoint_methods=('acme4',), unpacks=True)"
    acme.site.add_specs("acme-quant", "openlathe_quantizations", spec)
    with pytest.raises(ConfigError, match="'acme4' is of no use for linear"):
        acme.plan(quantization="acme4")


def test_names_that_were_asked_for(acme):
    acme.site.add_specs("more", "openlathe_attention_backends", "AttentionBackendSpec(name='other', target='a:b')")
    acme.site.add_specs(
        "fast", "openlathe_kernels", "KernelSpec(name='silu', operator='silu_mul', target='a:b', priority=-200)"
    )
    plan = acme.plan(attention_backend="other", kernels={"silu_mul": "silu"})
    assert plan.choices["attention.0"].reason == "asked for by --attention-backend"
    assert plan.choices["attention.0"].refused[0].provider == "acme-attention/acme"
    assert plan.choices["kernel.silu_mul"].distribution == "fast"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"attention_backend": "nope"}, "attention-backend 'nope'; installed: acme"),
        ({"distributed_executor_backend": "ray"}, "executor 'ray'"),
        ({"quantization": "awq"}, "quantization 'awq'"),
        ({"tool_call_parser": "nope"}, "tool-parser 'nope'"),
        ({"reasoning_parser": "nope"}, "reasoning-parser 'nope'"),
        ({"kernels": {"nope": "x"}}, "no operator 'nope'"),
        ({"kernels": {"linear": "reference-attend"}}, "of no use for kernel.linear"),
        ({"plugin_options": {"executor.uniproc.x": "1"}}, "no option 'x'"),
        ({"device": "tpu"}, "--device is 'tpu'"),
    ],
)
def test_names_that_nobody_provides(acme, settings, words):
    with pytest.raises((PluginError, ConfigError), match=words):
        acme.plan(**settings)


def test_a_plugin_may_refuse_the_configuration(acme):
    acme.site.add("careful", CAREFUL)
    with pytest.raises(ConfigError, match="acme: at most 64"):
        acme.plan()
    assert acme.plan(max_num_seqs=64).max_num_seqs == 64


def test_a_required_plugin_that_is_missing(acme):
    with pytest.raises(PluginError, match="elsewhere is required"):
        acme.plan(policy={"require": ("elsewhere",)})


def test_no_model_is_an_error(site):
    with pytest.raises(ConfigError, match="No model was given"):
        make_plan(EngineConfig(), site.assemble())


def test_a_target_that_cannot_be_loaded_names_its_distribution(acme):
    acme.site.add_specs(
        "faulty", "openlathe_executors", "ExecutorSpec(name='x', target='nowhere_at_all:X', priority=9)"
    )
    with pytest.raises(PluginError, match=r"executor 'x' of faulty 1.0 cannot be loaded .*nowhere_at_all"):
        acme.plan().resolve("executor")


# -- parsers and templates ----------------------------------------------------------------------------------------


def parser(name, *fingerprints):
    return f"ToolParserSpec(name={name!r}, target='a:b', fingerprints={fingerprints!r})"


def test_the_model_names_its_parser_and_a_flag_overrides_it(bench):
    bench.add_model(", tool_parser='mine'")
    bench.site.add_specs("parsers", "openlathe_tool_parsers", parser("mine"), parser("other", "<call>"))
    assert bench.plan().choices["tool-parser"].reason == "named by the model plugin"
    assert bench.plan(tool_call_parser="other").choices["tool-parser"].name == "other"
    assert "tool-parser" not in bench.plan(tool_call_parser="none").choices


@pytest.mark.parametrize(
    "template, chosen, says",
    [
        ("", "mine", "named by the model plugin"),
        ("<mine>", "mine", "named by the model plugin"),
        ("<mine><call>", "mine", "named by the model plugin"),
        ("<call>", "other", "bears its fingerprints, not those of 'mine', which the model plugin names"),
        ("<call><again>", "mine", "named by the model plugin"),
    ],
)
def test_a_template_of_another_format_goes_before_the_model(bench, template, chosen, says):
    """A checkpoint that somebody trained on from the family's: a tie is decided by the model plugin."""
    bench.add_model(", tool_parser='mine'")
    specs = (parser("mine", "<mine>"), parser("other", "<call>"), parser("third", "<call>", "<again>"))
    bench.site.add_specs("parsers", "openlathe_tool_parsers", *specs)
    (bench.checkpoint / "chat_template.jinja").write_text(template)
    choice = bench.plan().choices["tool-parser"]
    assert choice.name == chosen
    assert says in choice.reason


def test_fingerprints_choose_where_nobody_names_one(acme):
    acme.site.add_specs(
        "parsers", "openlathe_tool_parsers", parser("a", "<call>", "<arg>"), parser("b", "<call>"), parser("c")
    )
    assert "tool-parser" not in acme.plan().choices
    assert any("No tool-parser" in note for note in acme.plan().notes)
    (acme.checkpoint / "tokenizer_config.json").write_text(json.dumps({"chat_template": "... <call> ..."}))
    assert acme.plan().choices["tool-parser"].name == "b"


@pytest.mark.parametrize(
    "name, content",
    [
        ("chat_template.jinja", "... <call> ..."),
        ("additional_chat_templates/tool_use.jinja", "... <call> ..."),
        ("chat_template.json", json.dumps({"chat_template": "... <call> ..."})),
        ("tokenizer_config.json", json.dumps({"chat_template": [{"name": "tool_use", "template": "... <call> ..."}]})),
    ],
)
def test_templates_bear_fingerprints_wherever_they_lie(acme, name, content):
    acme.site.add_specs("parsers", "openlathe_tool_parsers", parser("b", "<call>"))
    file = acme.checkpoint / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    assert acme.plan().choices["tool-parser"].name == "b"


def test_where_the_template_says_nothing_special_tokens_do(acme):
    acme.site.add_specs("parsers", "openlathe_tool_parsers", parser("a", "<call>", "<arg>"), parser("b", "<other>"))
    tokens = {str(place): {"content": text} for place, text in enumerate(("<call>", "<arg>", "<pad>"))}
    settings = {"chat_template": "{{ messages }}", "added_tokens_decoder": tokens}
    (acme.checkpoint / "tokenizer_config.json").write_text(json.dumps(settings))
    choice = acme.plan().choices["tool-parser"]
    assert choice.name == "a"
    assert "the chat template and the vocabulary bear its fingerprints" in choice.reason
    settings["chat_template"] = "<other>"
    (acme.checkpoint / "tokenizer_config.json").write_text(json.dumps(settings))
    assert acme.plan().choices["tool-parser"].name == "b"


def test_of_two_that_are_equally_good_none_is_guessed(acme):
    acme.site.add_specs("parsers", "openlathe_tool_parsers", parser("a", "<call>", "<arg>"), parser("b", "<call>"))
    (acme.checkpoint / "chat_template.jinja").write_text("<call><arg>")
    plan = acme.plan()
    assert "tool-parser" not in plan.choices
    assert any(
        "text is passed on" in note and "parsers/a and parsers/b" in note and "choose with --tool-call-parser" in note
        for note in plan.notes
    )


def test_fingerprints_are_those_of_the_template_in_use(acme, tmp_path):
    package = acme.site.add_specs("parsers", "openlathe_tool_parsers", parser("a", "<a>"), parser("b", "<b>"))
    (acme.site.folder / package / "b.jinja").write_text("{{ 1 }}<b>")
    template = f"ChatTemplateSpec(name='bee', target='{package}:b.jinja')"
    acme.site.add_specs("templates", "openlathe_chat_templates", template)
    (tmp_path / "b.jinja").write_text("<b>")
    (acme.checkpoint / "chat_template.jinja").write_text("<a>")
    given = [None, "bee", str(tmp_path / "b.jinja"), "{{ 1 }}<b>" + "." * 300]
    assert [acme.plan(chat_template=value).choices["tool-parser"].name for value in given] == ["a", "b", "b", "b"]


def test_a_parser_that_the_model_names_and_nobody_provides_is_noted(bench):
    bench.add_model(", tool_parser='absent'")
    plan = bench.plan()
    assert "tool-parser" not in plan.choices
    assert "No installed plugin provides the tool-parser 'absent'; installed: none." in plan.notes


def test_a_chat_template_by_name(acme):
    package = acme.site.add_specs(
        "templates", "openlathe_chat_templates", "ChatTemplateSpec(name='t', target='PACKAGE:t.jinja')"
    )
    file = acme.site.folder / package / "plugin.py"
    file.write_text(file.read_text().replace("PACKAGE", package))
    (file.parent / "t.jinja").write_text("hello")
    plan = acme.plan(chat_template="t")
    assert plan.resolve("chat-template").read_text() == "hello"
    assert "chat-template" not in acme.plan(chat_template="{{ messages }}").choices


# -- batch invariance ---------------------------------------------------------------------------------------------


@pytest.fixture
def free(acme):
    """With an attention backend that is free of the batch, and a function that adds such kernels."""
    backend = "AttentionBackendSpec(name='free', target='a:b', batch_invariant=True)"
    acme.site.add_specs("free-attention", "openlathe_attention_backends", backend)

    def add(*operators):
        kernel = "KernelSpec(name='free-{0}', operator='{0}', target='a:b', batch_invariant=True, priority=-200)"
        acme.site.add_specs("free", "openlathe_kernels", *map(kernel.format, operators))

    return add


def test_under_batch_invariant_what_depends_on_the_batch_is_passed_over(acme, free):
    free("linear", "experts", "attend", "silu_mul", "gelu_mul", "gelu", "merge_states", "head_linear", "attend_latent")
    choices = acme.plan(batch_invariant=True).choices
    assert choices["kernel.linear"].name == "free-linear"
    assert choices["kernel.rotary"].name == "reference-rotary"
    assert choices["attention.0"].name == "free"
    others = {"kernel.linear": "openlathe-core/reference-linear", "attention.0": "acme-attention/acme"}
    for slot, other in others.items():
        refused = {item.provider: item.reasons for item in choices[slot].refused}
        assert refused[other] == ("its results depend on the batch",)


def test_batch_invariant_without_an_operator_that_keeps_it_is_refused(acme, free):
    free("experts", "attend", "silu_mul", "gelu_mul", "gelu", "merge_states", "head_linear", "attend_latent")
    with pytest.raises(PluginError, match=r"--batch-invariant cannot be kept on cpu: no installed kernel for linear"):
        acme.plan(batch_invariant=True)


def test_references_promise_their_reductions_for_the_cpu_alone(acme, free, monkeypatch):
    free("linear", "experts", "attend", "silu_mul", "gelu_mul", "gelu", "merge_states", "head_linear", "attend_latent")
    monkeypatch.setattr(plan_module, "detect", lambda device: DeviceFacts(type="cuda"))
    with pytest.raises(PluginError, match=r"kernel for add_rms_norm .*depend on the batch is not known on cuda"):
        acme.plan(batch_invariant=True)
