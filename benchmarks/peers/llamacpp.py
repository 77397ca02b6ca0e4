"""llama.cpp: the source that its Python package carries, and the programs built from it. Standard library only."""

from __future__ import annotations

from .paths import environment

#: The release of llama-cpp-python whose source is built.
VERSION = "0.3.36"
PROGRAMS = ("llama-server", "llama-bench", "llama-batched-bench", "llama-quantize")
HOME = environment("llamacpp")
PACKAGE = HOME / "src" / f"llama_cpp_python-{VERSION}"
SOURCE = PACKAGE / "vendor" / "llama.cpp"
BUILD = HOME / "build"
BINARIES = BUILD / "bin"
