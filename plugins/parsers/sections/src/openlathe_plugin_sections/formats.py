"""Reasoning formats that are one tagged section."""

from .engine import SectionFormat

#: Qwen 3: ``<think>\n...\n</think>\n\n`` before the answer. Its template leaves newlines next to the markers out of
#: what it puts back into a prompt, and so do we.
QWEN3 = SectionFormat(open="<think>", close="</think>")
