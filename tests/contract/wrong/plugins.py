"""Plugins that are each wrong in one way: objects with one hook. What their targets do wrong is told there."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

from openlathe.spi import (
    AttentionBackendSpec,
    ChatTemplateSpec,
    CommandSpec,
    ExecutorSpec,
    KernelSpec,
    LogitsProcessorSpec,
    ModelSpec,
    Option,
    QuantizationSpec,
    hookimpl,
)

PLAIN = "openlathe.layers.linear:PlainLinearMethod"


def _plugin(hook, *specs):
    return SimpleNamespace(**{hook: hookimpl(lambda: specs)})


def _quantization(**facts):
    return _plugin("openlathe_quantizations", QuantizationSpec(**{"name": "wrong", "target": PLAIN, **facts}))


def _model(name, **facts):
    right = {
        "target": "openlathe_plugin_qwen3.modeling:Qwen3ForCausalLM",
        "config": "openlathe_plugin_qwen3.config:Qwen3Config",
        "architectures": ("Qwen3ForCausalLM",),
        "reference": "Qwen3ForCausalLM",
        "tiny_config": "openlathe_plugin_qwen3:tiny.json",
    }
    return _plugin("openlathe_models", ModelSpec(name=name, **{**right, **facts}))


# -- plugins in general -------------------------------------------------------------------------------------------


@hookimpl
def openlathe_executors():
    raise RuntimeError("the moon is not full")


raises = SimpleNamespace(openlathe_executors=openlathe_executors)
fine = _quantization()

_calls = itertools.count()


def _another_name():
    yield ExecutorSpec(name=f"call-{next(_calls)}", target="openlathe.engine.executor:UniprocExecutor")


forgetful = SimpleNamespace(openlathe_executors=hookimpl(_another_name))

tuple_default = _quantization(options=(Option(name="bits", default=(4, 8), help="of the weights"),))
helpless = _quantization(options=(Option(name="bits", type="int", default=4),))
hintless = _quantization(requires=("openlathe-core>=0",))
nowhere = _quantization(target="openlathe.layers.linear:Nothing")
half_a_method = _quantization(target="wrong.targets:HalfAMethod")
misspelt = _plugin(
    "openlathe_attention_backends",
    AttentionBackendSpec(
        name="misspelt",
        target="openlathe_plugin_paged.backend:PagedAttention",
        features=frozenset({"slidingwindow"}),
    ),
)
thoughtless = _quantization(refuse="wrong.facts:refuse")
no_file = _plugin("openlathe_chat_templates", ChatTemplateSpec(name="no-file", target="wrong:absent.jinja"))


# -- attention backends -------------------------------------------------------------------------------------------

BACKENDS = {
    "reads-one-more": "ReadsOneMore",
    "sees-the-future": "SeesTheFuture",
    "forgets-the-cache": "ForgetsTheCache",
    "mixes-up-requests": "MixesUpRequests",
    "remembers-the-first-step": "RemembersTheFirstStep",
    "stripes-heads": "StripesHeads",
    "scales-for-small-heads": "ScalesForSmallHeads",
    "values-like-keys": "ValuesLikeKeys",
    "blocks-of-sixteen": "BlocksOfSixteen",
    "ignores-the-window": "IgnoresTheWindow",
    "ignores-the-soft-cap": "IgnoresTheSoftCap",
    "ignores-the-sinks": "IgnoresTheSinks",
    "forgets-the-scales": "ForgetsTheScales",
    "keeps-the-first-layer": "KeepsTheFirstLayer",
    "trusts-the-bounds": "TrustsTheBounds",
    "shares-too-much": "SharesTooMuch",
    "pads-into-slot-zero": "PadsIntoSlotZero",
    "depends-on-the-batch": "DependsOnTheBatch",
}
ENCODERS = {
    "sees-the-past-alone": "SeesThePastAlone",
    "sees-other-prompts": "SeesOtherPrompts",
    "sees-one-further": "SeesOneFurther",
    "stripes-prompt-heads": "StripesPromptHeads",
    "counts-prompts": "CountsPrompts",
}
backends = _plugin(
    "openlathe_attention_backends",
    *(
        AttentionBackendSpec(
            name=name,
            target=f"wrong.attention:{target}",
            kv=("FullKV", "SlidingKV"),
            features=frozenset({"sliding_window", "soft_cap", "sinks"}),
            batch_invariant=True,
        )
        for name, target in BACKENDS.items()
    ),
    *(
        AttentionBackendSpec(
            name=name,
            target=f"wrong.encoders:{target}",
            kv=("EncoderOnly",),
            features=frozenset({"sliding_window"}),
            batch_invariant=True,
        )
        for name, target in ENCODERS.items()
    ),
    AttentionBackendSpec(
        name="expands-long-prompts",
        target="openlathe_plugin_mla.backend:LatentAttentionBackend",
        kv=("MLAKV",),
        batch_invariant=True,
    ),
)


# -- operators ----------------------------------------------------------------------------------------------------

#: Operator -> functions that claim to be it.
FUNCTIONS = {
    "capture": ("capture_a_picture", "capture_without_a_reason", "capture_what_fails"),
    "embedding": ("embedding_of_the_next_row",),
    "greedy": ("greedy_for_the_last",),
    "draw": (
        *("draw_before_the_temperature", "draw_without_filters", "draw_from_one_row", "draw_in_place"),
        *("draw_of_the_first_row", "draw_in_half", "draw_what_is_masked", "draw_no_number"),
    ),
    "rms_norm": ("norm_in_float32", "norm_without_eps", "norm_in_place"),
    "silu_mul": ("silu_of_the_second_half", "silu_by_the_rows"),
    "gelu_mul": ("gelu_by_the_error_function",),
    "gelu": ("gelu_of_one_form",),
    "rotary": ("rotary_of_halves", "rotary_of_everything"),
    "linear": ("linear_without_bias", "linear_that_copies", "linear_by_the_rows", "linear_in_halves"),
    "int8_linear": ("int8_linear_in_floats", "int8_linear_clamped", "int8_linear_in_place"),
    "int4_linear": ("int4_linear_around_the_middle", "int4_linear_for_nothing"),
    "experts": (
        "experts_without_biases",
        "experts_with_a_gate_of_their_own",
        "experts_unweighted",
        "experts_all_at_once",
        "experts_by_the_rows",
    ),
    "merge_states": ("merge_into_nan",),
    "write_kv": ("write_heads_first", "write_lanes_by_rows", "write_with_one_scale"),
    "attend": (
        "attend_at_once",
        "attend_to_lanes_by_rows",
        "attend_without_scales",
        "attend_scaled",
        "attend_causally",
        "attend_without_window",
        "attend_without_soft_cap",
        "attend_with_late_sinks",
        "attend_to_the_bounds",
        "attend_by_the_keys",
    ),
    "head_linear": ("head_linear_of_the_first_head",),
    "write_latent": ("write_latents_in_order",),
    "attend_latent": ("attend_latents_scaled", "attend_latents_by_the_keys"),
}
kernels = _plugin(
    "openlathe_kernels",
    *(
        KernelSpec(
            name=function.replace("_", "-"),
            operator=operator,
            target=f"wrong.operators:{function}",
            kv_dtypes=(),
            features=frozenset({"sliding_window", "soft_cap", "sinks", "lse"} if operator.startswith("attend") else ()),
            batch_invariant="_by_the_" in function,
        )
        for operator, functions in FUNCTIONS.items()
        for function in functions
    ),
)


# -- logits processors --------------------------------------------------------------------------------------------

PROCESSORS = {
    "trips-over-text": "TripsOverText",
    "goes-by-the-place": "GoesByThePlace",
    "never-forgets": "NeverForgets",
    "moves-the-best": "MovesTheBest",
    "asks-the-device": "AsksTheDevice",
}
processors = _plugin(
    "openlathe_logits_processors",
    *(
        LogitsProcessorSpec(
            name=name, target=f"wrong.logits:{target}", changes_argmax=name != "moves-the-best", arguments=("strength",)
        )
        for name, target in PROCESSORS.items()
    ),
)


# -- commands -----------------------------------------------------------------------------------------------------

deaf_to_plugins = _plugin(
    "openlathe_commands", CommandSpec(name="deaf-to-plugins", target="wrong.targets:offers_plugins")
)


# -- models -------------------------------------------------------------------------------------------------------

no_config = _model("no-config", config="wrong.models:NoConfig")
no_parser = _model("no-parser", tool_parser="unheard-of")
new_layout_only = _model("new-layout-only", config="wrong.models:NewLayoutOnly")
layers_without_cache = _model("layers-without-cache", target="wrong.models:LayersWithoutCache")
swaps_shards = _model("swaps-shards", target="wrong.models:SwapsShards")
starts_each_chunk_at_zero = _model("starts-each-chunk-at-zero", target="wrong.models:StartsEachChunkAtZero")
one_position_for_all = _model("one-position-for-all", target="wrong.models:OnePositionForAll")
no_embeddings = _model("no-embeddings", target="wrong.models:NoEmbeddings")
second_best = _model("second-best", target="wrong.models:SecondBest")
coarse = _model("coarse", target="wrong.models:Coarse")
never_tied = _model("never-tied", target="wrong.models:NeverTied")
skips_the_key_norm = _model("skips-the-key-norm", target="wrong.models:SkipsTheKeyNorm")
skips_in_secret = _model("skips-in-secret", target="wrong.models:SkipsInSecret")
by_the_rows = _model("by-the-rows", target="wrong.models:ByTheRows")
takes_anything = _model("takes-anything", target="wrong.models:TakesAnything")


# -- models that pool ---------------------------------------------------------------------------------------------


def _embedder(name, target):
    facts = {"architectures": ("Qwen3Model",), "reference": "Qwen3Model", "capabilities": frozenset({"embed"})}
    return _model(name, target=f"wrong.models:{target}", **facts)


embeds_at_one_position = _embedder("embeds-at-one-position", "EmbedsAtOnePosition")
doubles_vectors = _embedder("doubles-vectors", "DoublesVectors")
coarse_vectors = _embedder("coarse-vectors", "CoarseVectors")
vectors_by_the_rows = _embedder("vectors-by-the-rows", "VectorsByTheRows")


# -- templates of pairs -------------------------------------------------------------------------------------------


def _pairs(name):
    spec = ChatTemplateSpec(name=name, target=f"wrong:{name}.jinja", supports=frozenset({"score"}))
    return _plugin("openlathe_chat_templates", spec)


query_alone = _pairs("query-alone")
removes_seams = _pairs("removes-seams")
