"""Tiny checkpoints: :func:`tiny_qwen3` with random weights, :func:`scripted_qwen3` that knows :data:`SCRIPTS`."""

from .qwen3 import qwen3_template, scripted_examples, scripted_qwen3, tiny_qwen3
from .scripts import SCRIPTS, Call, Script

__all__ = ["SCRIPTS", "Call", "Script", "qwen3_template", "scripted_examples", "scripted_qwen3", "tiny_qwen3"]
