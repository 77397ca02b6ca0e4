"""The words that specs may declare, by kind and field: what core asks about, and so what a capability can mean."""

from __future__ import annotations

DTYPES = frozenset({"float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2", "int8"})
DEVICES = frozenset({"cpu", "cuda", "xpu", "mps", "hpu"})

OPERATORS = frozenset(
    {
        "rms_norm",
        "add_rms_norm",
        "rotary",
        "silu_mul",
        "gelu_mul",
        "gelu",
        "linear",
        "int8_linear",
        "int4_linear",
        "experts",
        "write_kv",
        "attend",
        "merge_states",
        "head_linear",
        "write_latent",
        "attend_latent",
        "capture",
        "embedding",
        "greedy",
        "draw",
    }
)

WORDS: dict[str, dict[str, frozenset[str]]] = {
    "model": {"capabilities": frozenset({"generate", "embed", "classify", "score", "reward", "lora"})},
    "attention-backend": {
        "devices": DEVICES,
        "dtypes": DTYPES,
        "kv_dtypes": DTYPES,
        "kv": frozenset({"FullKV", "SlidingKV", "MLAKV", "EncoderOnly"}),
        "features": frozenset({"sliding_window", "soft_cap", "sinks", "lse", "shared_prefix", "graph_capture"}),
        "operators": OPERATORS,
    },
    "kernel": {"operator": OPERATORS, "devices": DEVICES, "dtypes": DTYPES, "kv_dtypes": DTYPES},
    "chat-template": {"supports": frozenset({"tools", "system", "reasoning", "score"})},
    "kv-offload": {"tier": frozenset({"host", "disk", "remote"})},
    "grammar": {"sources": frozenset({"json_schema", "regex", "choice", "ebnf"})},
    "quantization": {"devices": DEVICES},
}
