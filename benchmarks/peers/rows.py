"""What is measured, of which engines, and what is wanted of ours: data alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple


class Variant(NamedTuple):
    """An engine with weights in one precision, as it resides in memory."""

    engine: str
    weights: str

    def __str__(self) -> str:
        return f"{self.engine}-{self.weights}"


class Claim(NamedTuple):
    """Ours is to be at least ``ratio`` times as good as a variant in one figure of a row."""

    against: Variant
    ratio: float
    figure: str = "value"


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    unit: str
    measure: str
    ours: Variant
    claims: tuple[Claim, ...] = ()
    #: Measured on request only.
    others: tuple[Variant, ...] = ()
    model: str = "0.6b"
    place: Literal["process", "server"] = "process"
    lower_is_better: bool = False
    #: The share wanted of the read bandwidth over ``weight_bytes``, where the row is bound by that.
    of_bandwidth: float | None = None
    weight_bytes: float = 0.0
    #: Wanted of our figure itself.
    at_most: float | None = None

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Ours, and those that something is claimed against."""
        return tuple(dict.fromkeys([self.ours, *(claim.against for claim in self.claims)]))


#: Parameters of the large checkpoint; decoding reads each of them once a step, the head that is the embedding included.
PARAMETERS = 596.05e6
#: Figures of which less is better whatever the row says.
LOWER = ("ttft_ms", "itl_ms")

OURS = {weights: Variant("openlathe", weights) for weights in ("bf16", "int8", "int4")}
OPENVINO = {weights: Variant("openvino", weights) for weights in ("bf16", "int8", "int4")}
LLAMA = {weights: Variant("llamacpp", weights) for weights in ("bf16", "q8_0", "q4_0")}
VLLM = Variant("vllm", "bf16")
TRANSFORMERS = Variant("transformers", "bf16")

ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        Row(
            "decode-bf16",
            "decode, batch 1, bf16",
            "tok/s",
            "decode",
            OURS["bf16"],
            (Claim(OPENVINO["bf16"], 1.0),),
            (VLLM, LLAMA["bf16"], TRANSFORMERS),
            of_bandwidth=0.93,
            weight_bytes=2 * PARAMETERS,
        ),
        Row(
            "decode-int8",
            "decode, batch 1, int8",
            "tok/s",
            "decode",
            OURS["int8"],
            (Claim(OPENVINO["int8"], 1.3),),
            (LLAMA["q8_0"],),
            of_bandwidth=0.85,
            weight_bytes=PARAMETERS,
        ),
        Row(
            "decode-int4",
            "decode, batch 1, int4",
            "tok/s",
            "decode",
            OURS["int4"],
            (Claim(LLAMA["q4_0"], 1.15),),
            (OPENVINO["int4"],),
        ),
        Row(
            "batch32-bf16",
            "32 requests, 128 in, 128 out, bf16",
            "tok/s",
            "batch32",
            OURS["bf16"],
            (Claim(OPENVINO["bf16"], 1.2), Claim(VLLM, 1.35)),
            (LLAMA["bf16"], TRANSFORMERS),
        ),
        Row(
            "batch32-int8",
            "32 requests, 128 in, 128 out, int8",
            "tok/s",
            "batch32",
            OURS["int8"],
            (Claim(OPENVINO["int4"], 1.3), Claim(OPENVINO["int8"], 1.3)),
            (LLAMA["q8_0"], LLAMA["q4_0"]),
        ),
        Row(
            "prefill-bf16",
            "prefill of 1,024, bf16",
            "tok/s",
            "prefill",
            OURS["bf16"],
            (Claim(OPENVINO["bf16"], 1.0),),
            (VLLM, LLAMA["bf16"], TRANSFORMERS),
        ),
        Row(
            "prefill-int8",
            "prefill of 1,024, int8",
            "tok/s",
            "prefill",
            OURS["int8"],
            (Claim(OPENVINO["int8"], 1.25),),
            (LLAMA["q8_0"],),
        ),
        Row(
            "ttft",
            "repeated 1,024-token prompt: time to first token",
            "decode steps",
            "ttft",
            OURS["bf16"],
            others=(OPENVINO["bf16"], VLLM),
            lower_is_better=True,
            at_most=1.3,
        ),
        Row(
            "start",
            "process start to first token over HTTP, warm page cache",
            "s",
            "start",
            OURS["bf16"],
            (Claim(LLAMA["bf16"], 1.0),),
            (VLLM,),
            place="server",
            lower_is_better=True,
        ),
        Row(
            "memory",
            "peak memory, anonymous and mapped, pool of 1 GiB",
            "GB",
            "memory",
            OURS["bf16"],
            (Claim(OPENVINO["bf16"], 1.0), Claim(VLLM, 1.0), Claim(LLAMA["bf16"], 1.0)),
            (TRANSFORMERS,),
            lower_is_better=True,
        ),
        Row(
            "http-8",
            "HTTP, 8 streaming clients, 128 in, 64 out",
            "requests/s",
            "load",
            OURS["bf16"],
            (Claim(VLLM, 1.3), Claim(VLLM, 1.0, "ttft_ms"), Claim(VLLM, 1.0, "itl_ms")),
            (LLAMA["bf16"],),
            place="server",
        ),
        Row(
            "http-small-32",
            "HTTP, 29M parameters, 32 streaming clients, 128 in, 64 out",
            "requests/s",
            "load",
            OURS["bf16"],
            (Claim(LLAMA["bf16"], 1.1),),
            (VLLM,),
            model="29m",
            place="server",
        ),
    )
}
#: Clients and requests of a load, by model.
LOADS = {"0.6b": (8, 24), "29m": (32, 160)}
