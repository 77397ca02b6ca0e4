"""Where the peers and their models are kept; nothing of it belongs to the repository. Standard library only."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "peers"
MODELS = CACHE / "models"
#: Weights as our own operators read them, left by the first start.
PACKED = CACHE / "packed"
OURS = ROOT / ".venv"


def environment(name: str) -> Path:
    """The virtual environment of a peer, or of a tool that only converts."""
    return CACHE / name


def python(name: str) -> Path:
    return environment(name) / "bin" / "python"


def checkpoint(model: str) -> Path:
    """The checkpoint as transformers writes it: safetensors in bf16."""
    return MODELS / model


def openvino(model: str, weights: str) -> Path:
    return MODELS / f"{model}-openvino-{weights}"


def gguf(model: str, weights: str) -> Path:
    return MODELS / f"{model}-{weights}.gguf"
