"""What core itself brings, registered like any other plugin: one process, plain weights, the reference operators."""

from __future__ import annotations

from collections.abc import Iterable

from .spi import ExecutorSpec, KernelQuery, KernelSpec, QuantizationSpec, hookimpl

#: Operator -> what its reference offers beyond the plain case; each is the function of that name in its module.
REFERENCES: dict[str, frozenset[str]] = {
    "capture": frozenset(),
    "embedding": frozenset(),
    "rms_norm": frozenset(),
    "add_rms_norm": frozenset(),
    "rotary": frozenset(),
    "silu_mul": frozenset(),
    "gelu_mul": frozenset(),
    "gelu": frozenset(),
    "linear": frozenset(),
    "int8_linear": frozenset(),
    "int4_linear": frozenset(),
    "experts": frozenset(),
    "write_kv": frozenset(),
    "attend": frozenset({"sliding_window", "soft_cap", "sinks", "lse"}),
    "merge_states": frozenset(),
    "head_linear": frozenset(),
    "write_latent": frozenset(),
    "attend_latent": frozenset({"lse"}),
    "greedy": frozenset(),
    "draw": frozenset(),
}
#: References that treat every row by itself; on other devices than the CPU nobody has looked at their reductions.
ROWS_APART = frozenset(
    {
        *("capture", "embedding", "rms_norm", "add_rms_norm", "rotary", "int8_linear", "int4_linear"),
        *("write_kv", "write_latent", "greedy", "draw"),
    }
)
REDUCTIONS = frozenset({"rms_norm", "add_rms_norm", "int8_linear", "int4_linear", "draw"})


@hookimpl
def openlathe_executors() -> Iterable[ExecutorSpec]:
    yield ExecutorSpec(
        name="uniproc",
        aliases=("uni",),
        target="openlathe.engine.executor:UniprocExecutor",
        summary="one worker in the engine's own process",
        max_workers=1,
    )


@hookimpl
def openlathe_quantizations() -> Iterable[QuantizationSpec]:
    yield QuantizationSpec(
        name="none",
        target="openlathe.layers.linear:PlainLinearMethod",
        summary="weights as they are in the checkpoint",
        batch_invariant=True,
    )


@hookimpl
def openlathe_kernels() -> Iterable[KernelSpec]:
    for operator, features in REFERENCES.items():
        yield KernelSpec(
            name=f"reference-{operator}".replace("_", "-"),
            operator=operator,
            target=f"openlathe.kernels.{operator}:{operator}",
            summary="plain torch; defines the operator",
            kv_dtypes=("float32", "bfloat16", "float16", "int8"),
            features=features,
            batch_invariant=operator in ROWS_APART,
            refuse="openlathe.builtin:refuse_reductions" if operator in REDUCTIONS else None,
            priority=-100,
        )


def refuse_reductions(query: KernelQuery) -> tuple[str, ...]:
    """Torch's reductions are known to treat rows apart on the CPU; elsewhere nothing is promised of them."""
    if query.batch_invariant and query.device.type != "cpu":
        return (f"whether its results depend on the batch is not known on {query.device.type}",)
    return ()
