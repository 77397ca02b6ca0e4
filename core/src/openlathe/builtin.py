"""What core itself brings, registered like any other plugin: one process, plain weights, the reference operators."""

from __future__ import annotations

from collections.abc import Iterable

from .spi import ExecutorSpec, KernelSpec, QuantizationSpec, hookimpl

#: Operator -> what its reference offers beyond the plain case; each is the function of that name in its module.
REFERENCES: dict[str, frozenset[str]] = {
    "rms_norm": frozenset(),
    "add_rms_norm": frozenset(),
    "rotary": frozenset(),
    "silu_mul": frozenset(),
    "linear": frozenset(),
    "write_kv": frozenset(),
    "attend": frozenset({"sliding_window", "soft_cap", "sinks", "lse"}),
    "merge_states": frozenset(),
}


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
        name="none", target="openlathe.layers.linear:PlainLinearMethod", summary="weights as they are in the checkpoint"
    )


@hookimpl
def openlathe_kernels() -> Iterable[KernelSpec]:
    for operator, features in REFERENCES.items():
        yield KernelSpec(
            name=f"reference-{operator}".replace("_", "-"),
            operator=operator,
            target=f"openlathe.kernels.{operator}:{operator}",
            summary="plain torch; defines the operator",
            features=features,
            priority=-100,
        )
