"""Native operators for the CPU, as far as they are faster than those on torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from openlathe.spi import KernelSpec, hookimpl

#: Before the operators on plain torch.
FASTER = 10
DTYPES = ("bfloat16", "float32")
KV_DTYPES = ("bfloat16", "float32", "float16", "int8")

#: Operator -> the module that has it, and a line for lists.
OPERATORS: dict[str, tuple[str, str]] = {
    "capture": ("capture", "a step's calls in one go"),
    "embedding": ("tokens", "rows copied"),
    "linear": ("linear", "weights packed once for the CPU's vectors"),
    "int8_linear": ("int8_linear", "sums of bytes, weights packed once"),
    "int4_linear": ("int4_linear", "sums of bytes, weights packed once and unpacked in registers"),
    "experts": ("experts", "weights packed once for the CPU's vectors"),
    "write_kv": ("write_kv", "rows copied into their slots"),
    "attend": ("attend", "pages read where they lie"),
    "attend_latent": ("attend", "pages read where they lie"),
    "rms_norm": ("norms", "one pass over each row"),
    "add_rms_norm": ("norms", "sum and norm in one pass"),
    "rotary": ("rotary", "one pass over queries and keys"),
    "silu_mul": ("gates", "one pass"),
    "gelu_mul": ("gates", "one pass"),
    "greedy": ("tokens", "one pass, shared by the threads"),
    "draw": ("tokens", "nothing sorted, a row for each thread"),
}
#: What differs from operator to operator.
FACTS: dict[str, dict[str, Any]] = {
    "capture": {"dtypes": ()},
    "embedding": {"dtypes": ()},
    "write_kv": {"dtypes": (), "kv_dtypes": KV_DTYPES},
    "attend": {
        "kv_dtypes": KV_DTYPES,
        "features": frozenset({"sliding_window", "soft_cap", "sinks", "lse"}),
        "refuse": "openlathe_plugin_cpu.facts:refuse_attention",
    },
    "attend_latent": {"features": frozenset({"lse"}), "refuse": "openlathe_plugin_cpu.facts:refuse_attention"},
}


@hookimpl
def openlathe_kernels() -> Iterable[KernelSpec]:
    for operator, (module, summary) in OPERATORS.items():
        facts = {"dtypes": DTYPES, "refuse": "openlathe_plugin_cpu.facts:refuse", **FACTS.get(operator, {})}
        yield KernelSpec(
            name=f"cpu-{operator}".replace("_", "-"),
            operator=operator,
            target=f"openlathe_plugin_cpu.{module}:{operator}",
            summary=summary,
            devices=("cpu",),
            batch_invariant=True,
            priority=FASTER,
            **facts,
        )
