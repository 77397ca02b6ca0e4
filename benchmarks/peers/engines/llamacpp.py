"""llama.cpp, measured by its own programs: each loads for itself, and draws its own random ids."""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
from collections.abc import Callable

from .. import paths
from ..llamacpp import BINARIES
from ..worker import (
    BATCH,
    KV_BYTES,
    LONG_PROMPT,
    NEW_TOKENS,
    PROMPT,
    REPEATS,
    STEPS,
    THREADS,
    arguments,
    tell,
)

#: Of Qwen3-0.6B in 16 bits: 28 layers of 8 heads of 128, keys and values.
KV_BYTES_PER_TOKEN = 28 * 8 * 128 * 2 * 2


class LlamaCpp:
    def __init__(self, model: str, weights: str) -> None:
        self.file = str(paths.gguf(model, weights))

    def decode(self) -> dict[str, float]:
        """Tokens a second of one request behind a context of 128; sampling is not in it."""
        return self._bench("-p", "0", "-n", str(STEPS), "-d", str(PROMPT))

    def prefill(self) -> dict[str, float]:
        return self._bench("-p", str(LONG_PROMPT), "-n", "0")

    def batch32(self) -> dict[str, float]:
        """All prompts first, then all decode: this program knows no other way."""
        seconds = self._batch(NEW_TOKENS)["t"]
        return {"value": BATCH * NEW_TOKENS / seconds}

    def memory(self) -> dict[str, float]:
        """GB at most that any program needed, a batch of all requests among them; the pool is taken whole at once."""
        self._batch(1)
        return {"value": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9}

    def _bench(self, *options: str) -> dict[str, float]:
        size = ["-r", str(REPEATS), "-o", "json"]
        (report,) = json.loads(self._run("llama-bench", *size, *options))
        return {"value": statistics.median(report["samples_ts"])}

    def _batch(self, new_tokens: int) -> dict[str, float]:
        pool = str(KV_BYTES // KV_BYTES_PER_TOKEN // 256 * 256)
        sizes = ["-npp", str(PROMPT), "-ntg", str(new_tokens), "-npl", str(BATCH)]
        output = self._run(
            "llama-batched-bench", "-c", pool, *sizes, "-b", "2048", "--output-format", "jsonl", "--kv-unified"
        )
        (report,) = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        return report

    def _run(self, program: str, *options: str) -> str:
        command = [str(BINARIES / program), "-m", self.file, "-t", str(THREADS), *options]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def main() -> None:
    args = arguments()
    engine = LlamaCpp(args.model, args.weights)
    measures: dict[str, Callable[[], dict[str, float]]] = {
        "decode": engine.decode,
        "batch32": engine.batch32,
        "prefill": engine.prefill,
        "memory": engine.memory,
    }
    for measure in args.measures:
        tell(measure=measure, **measures[measure]())


if __name__ == "__main__":
    main()
