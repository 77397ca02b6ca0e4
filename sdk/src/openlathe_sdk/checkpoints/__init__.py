"""Tiny checkpoints: :func:`tiny_qwen3` with random weights, :func:`scripted_qwen3` that knows :data:`SCRIPTS`, and
:func:`trained_qwen3` that continues the tales of :func:`tell`."""

from .qwen3 import HELD_OUT, qwen3_template, scripted_examples, scripted_qwen3, tiny_qwen3, trained_qwen3
from .scripts import SCRIPTS, Call, Script
from .tales import tell

__all__ = [
    "HELD_OUT",
    "SCRIPTS",
    "Call",
    "Script",
    "qwen3_template",
    "scripted_examples",
    "scripted_qwen3",
    "tell",
    "tiny_qwen3",
    "trained_qwen3",
]
