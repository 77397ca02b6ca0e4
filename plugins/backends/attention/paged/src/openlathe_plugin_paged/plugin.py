"""Paged attention: block tables over one pool of pages, on the attention operators."""

from __future__ import annotations

from collections.abc import Iterable

from openlathe.spi import AttentionBackendSpec, hookimpl


@hookimpl
def openlathe_attention_backends() -> Iterable[AttentionBackendSpec]:
    yield AttentionBackendSpec(
        name="paged",
        summary="block tables, on the operators write_kv and attend",
        target="openlathe_plugin_paged.backend:PagedAttention",
        kv=("FullKV", "SlidingKV"),
        kv_dtypes=("float32", "bfloat16", "float16", "int8"),
        features=frozenset({"sliding_window", "soft_cap", "sinks", "graph_capture"}),
        operators=("write_kv", "attend"),
        batch_invariant=True,
    )
