"""The checkpoints in the formats of the peers, each made once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from . import checkpoints, llamacpp, paths

#: What is called bf16 is an fp16 file computed in bf16: the exporter of OpenVINO writes no other 16-bit weights.
OPENVINO_FORMATS = {"bf16": "fp16", "int8": "int8", "int4": "int4"}
GGUF_FORMATS = {"q8_0": "Q8_0", "q4_0": "Q4_0"}
#: What the rows need, the file that others are made of first.
WEIGHTS: dict[str, dict[str, tuple[str, ...]]] = {
    "0.6b": {"openvino": ("bf16", "int8", "int4"), "llamacpp": ("bf16", "q8_0", "q4_0")},
    "29m": {"openvino": (), "llamacpp": ("bf16",)},
}


def build(model: str, targets: Iterable[str]) -> None:
    """Makes what is missing of the checkpoint and, for ``targets``, of its forms for ``openvino`` and ``llamacpp``."""
    checkpoints.build(model)
    if "openvino" in targets:
        for weights in WEIGHTS[model]["openvino"]:
            once(paths.openvino(model, weights), partial(to_openvino, model, weights))
    if "llamacpp" in targets:
        for weights in WEIGHTS[model]["llamacpp"]:
            once(paths.gguf(model, weights), partial(to_gguf, model, weights))


def once(path: Path, make: Callable[[Path], None]) -> None:
    """``make`` under another name first, so that what is cut short leaves nothing that looks whole."""
    if not path.exists():
        scratch = path.with_name(f"partial-{path.name}")
        make(scratch)
        scratch.rename(path)


def to_openvino(model: str, weights: str, path: Path) -> None:
    tool = str(paths.environment("export") / "bin" / "optimum-cli")
    source = str(paths.checkpoint(model))
    form = ["--task", "text-generation-with-past", "--weight-format", OPENVINO_FORMATS[weights]]
    subprocess.run([tool, "export", "openvino", "--model", source, *form, str(path)], check=True)


def to_gguf(model: str, weights: str, path: Path) -> None:
    if weights == "bf16":
        converter = [str(paths.python("export")), str(Path(__file__).with_name("to_gguf.py"))]
        subprocess.run([*converter, str(llamacpp.SOURCE), str(paths.checkpoint(model)), str(path)], check=True)
    else:
        whole = str(paths.gguf(model, "bf16"))
        tool = str(llamacpp.BINARIES / "llama-quantize")
        subprocess.run([tool, whole, str(path), GGUF_FORMATS[weights]], check=True)
