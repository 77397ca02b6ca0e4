"""Which rule must catch which wrong plugin, and how the wrong plugins would be installed."""

from __future__ import annotations

from openlathe.plugins.discover import Candidate
from openlathe.spi import ENTRY_POINT_GROUP

#: Suite -> rule -> the plugins, or providers of them, that it must catch.
CAUGHT: dict[str, dict[str, tuple[str, ...]]] = {
    "plugin": {
        "it_assembles": ("raises",),
        "importing_it_is_light": ("heavy",),
        "importing_it_has_no_side_effects": ("meddling",),
        "it_imports_the_contract_alone": ("private",),
        "its_package_is_empty": ("crowded",),
        "assembling_twice_is_identical": ("forgetful",),
        "its_licence_is_stated": ("unlicensed",),
        "its_range_of_core_is_stated": ("unbounded",),
        "the_spec_survives_json": ("tuple-default",),
        "the_declared_words_are_known": ("misspelt",),
        "the_options_are_well_formed": ("tuple-default", "helpless"),
        "the_requirements_are_well_formed": ("hintless",),
        "the_target_is_what_its_kind_asks_for": ("nowhere", "half-a-method"),
        "facts_need_no_torch": ("thoughtless",),
        "refusals_are_reasons": ("thoughtless",),
        "the_resources_exist": ("no-file",),
    },
    "attention": {
        "prefill": ("reads-one-more", "sees-the-future"),
        "decode": ("forgets-the-cache",),
        "chunked_prefill": ("forgets-the-cache",),
        "mixed_batch": ("mixes-up-requests",),
        "steps_of_every_size": ("remembers-the-first-step",),
        "grouped_queries": ("stripes-heads",),
        "head_sizes": ("scales-for-small-heads",),
        "values_of_another_size": ("values-like-keys",),
        "block_sizes": ("blocks-of-sixteen",),
        "sliding_window": ("ignores-the-window",),
        "soft_cap": ("ignores-the-soft-cap",),
        "sinks": ("ignores-the-sinks",),
        "a_cache_of_int8": ("forgets-the-scales",),
        "layers_share_a_plan": ("keeps-the-first-layer",),
        "lengths_on_the_host_are_upper_bounds": ("trusts-the-bounds",),
        "shared_prefix": ("shares-too-much",),
        "other_pages_stay_untouched": ("pads-into-slot-zero",),
        "a_prompt_both_ways": ("sees-the-past-alone",),
        "prompts_both_ways_in_a_batch": ("sees-other-prompts",),
        "a_window_on_either_side": ("sees-one-further",),
        "heads_both_ways": ("stripes-prompt-heads",),
    },
    "operators": {
        "it_equals_the_reference": (
            "embedding-of-the-next-row",
            "norm-in-float32",
            "norm-without-eps",
            "silu-of-the-second-half",
            "gelu-by-the-error-function",
            "gelu-of-one-form",
            "rotary-of-halves",
            "rotary-of-everything",
            "linear-without-bias",
            "experts-without-biases",
            "experts-with-a-gate-of-their-own",
            "experts-unweighted",
            "merge-into-nan",
            "head-linear-of-the-first-head",
        ),
        "its_arguments_stay_as_they_were": ("norm-in-place",),
        "a_packed_linear_says_what_it_keeps": ("linear-that-copies",),
        "a_router_is_multiplied_in_float32": ("linear-in-halves",),
        "packed_experts_say_what_they_keep": ("experts-all-at-once",),
        "experts_nobody_chose_are_not_read": ("experts-all-at-once",),
        "write_kv": ("write-heads-first", "write-lanes-by-rows"),
        "write_kv_rounded": ("write-with-one-scale",),
        "attend": ("attend-at-once", "attend-to-lanes-by-rows"),
        "attend_to_rounded": ("attend-without-scales",),
        "attend_over_head_sizes": ("attend-scaled",),
        "attend_with_a_sliding_window": ("attend-without-window",),
        "attend_with_a_soft_cap": ("attend-without-soft-cap",),
        "attend_with_sinks": ("attend-with-late-sinks",),
        "attend_without_causality": ("attend-causally",),
        "attend_with_bounds_above_the_lengths": ("attend-to-the-bounds",),
        "write_latent": ("write-latents-in-order",),
        "attend_latent": ("attend-latents-scaled",),
    },
    "quantized": {
        "products_are_exact": ("int8-linear-in-floats", "int8-linear-clamped", "int4-linear-around-the-middle"),
        "inputs_stay_as_they_were": ("int8-linear-in-place",),
        "rounded_weights_say_what_they_keep": ("int4-linear-for-nothing",),
    },
    "steps": {
        "the_first_of_the_best": ("greedy-for-the-last",),
        "every_number_finds_its_token": (
            *("draw-before-the-temperature", "draw-without-filters", "draw-from-one-row", "draw-in-place"),
            *("draw-of-the-first-row", "draw-in-half"),
        ),
        "a_masked_token_is_never_drawn": ("draw-what-is-masked",),
        "no_distribution_still_gives_a_token": ("draw-no-number",),
        "a_captured_step_runs_again": ("capture-a-picture", "capture-without-a-reason"),
        "a_step_that_fails_is_no_capture": ("capture-what-fails",),
    },
    "logits_processor": {
        "whatever_is_sent_is_accepted_or_refused": ("trips-over-text",),
        "a_row_is_what_it_would_be_alone": ("goes-by-the-place",),
        "a_row_is_forgotten_when_its_request_leaves": ("never-forgets",),
        "the_best_token_stays_the_best": ("moves-the-best",),
        "it_asks_nothing_of_the_device": ("asks-the-device",),
    },
    "invariance": {
        "rows_in_any_step": ("linear-by-the-rows", "silu-by-the-rows", "experts-by-the-rows"),
        "attend_in_any_step": ("attend-by-the-keys",),
        "attend_with_features_in_any_step": ("attend-by-the-keys",),
        "attend_latent_in_any_step": ("attend-latents-by-the-keys",),
        "attention_in_any_step": ("depends-on-the-batch",),
        "prompts_both_ways_in_any_step": ("counts-prompts",),
        "attention_over_latents_in_any_step": ("expands-long-prompts",),
    },
    "model_invariance": {
        "a_sequence_in_any_batch": ("by-the-rows",),
        "a_prompt_in_any_chunks": ("by-the-rows",),
        "a_prompt_behind_a_prefix_hit": ("by-the-rows",),
        "a_prompt_among_others": ("vectors-by-the-rows",),
    },
    "model": {
        "the_configuration_is_what_core_asks_for": ("no-config",),
        "the_providers_it_names_are_installed": ("no-parser",),
        "both_layouts_of_the_configuration": ("new-layout-only",),
        "every_layer_has_its_cache": ("layers-without-cache",),
        "every_tensor_is_used": ("skips-the-key-norm",),
        "a_missing_tensor_is_refused": ("skips-in-secret",),
        "an_unknown_tensor_is_refused": ("takes-anything",),
        "a_misshapen_tensor_is_refused": ("skips-in-secret",),
    },
    "generation": {
        "a_whole_prompt": ("swaps-shards",),
        "a_prompt_in_chunks": ("starts-each-chunk-at-zero",),
        "several_sequences_in_a_batch": ("one-position-for-all",),
        "embeddings_instead_of_tokens": ("no-embeddings",),
        "greedy_tokens": ("second-best",),
        "greedy_tokens_under_preemption": ("second-best",),
        "in_bfloat16": ("coarse",),
        "tied_and_untied_heads": ("never-tied",),
    },
    "pooling": {
        "prompts_of_several_lengths": ("embeds-at-one-position",),
        "in_the_engine": ("doubles-vectors",),
        "in_bfloat16": ("coarse-vectors",),
    },
    "command": {
        "it_is_handed_the_flags_that_it_offers": ("deaf-to-plugins",),
    },
    "score_template": {
        "both_texts_are_in_the_prompt_once_and_in_order": ("query-alone",),
        "texts_cannot_forge_a_turn": ("removes-seams",),
    },
}

#: Plugins that are modules of their own, because importing them is what is wrong; the rest are in plugins.py.
MODULES = {
    "heavy": "wrong.heavy",
    "meddling": "wrong.meddling",
    "private": "wrong.private",
    "crowded": "wrong.crowded.plugin",
}
#: Right plugins of wrong distributions, with what these require; only `unbounded` is installed with a licence.
DISTRIBUTIONS = {"unlicensed": ("openlathe-core>=0.1,<0.2",), "unbounded": ("openlathe-core",)}


def candidates() -> list[Candidate]:
    """Attention backends, operators and logits processors are in one plugin each, all else in plugins of one spec."""
    titles = ("plugin", "model", "generation", "pooling", "command", "score_template")
    single = {name for title in titles for wrong in CAUGHT[title].values() for name in wrong}
    several = ("backends", "kernels", "processors", "by-the-rows", "vectors-by-the-rows")
    return [_candidate(name) for name in (*several, *sorted(single))]


def _candidate(name: str) -> Candidate:
    attribute = "fine" if name in DISTRIBUTIONS else name.replace("-", "_")
    return Candidate(
        name=name,
        value=MODULES.get(name, f"wrong.plugins:{attribute}"),
        group=ENTRY_POINT_GROUP,
        distribution=f"wrong-{name}",
        version="0",
        origin="path",
        requires=DISTRIBUTIONS.get(name, ("openlathe-core>=0.1,<0.2",)),
    )
