"""The servers of the engines that have one, and what is measured of them."""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import load, paths
from .llamacpp import BINARIES
from .procs import cpu_seconds, resident, tree
from .rows import LOADS, Variant
from .worker import BATCH, KV_BYTES, MAX_LENGTH, THREADS

START_SECONDS = LOAD_SECONDS = 300
#: Tokens of each request of the load that only warms up.
WARMING = 8
#: What the slots of llama-server share, who rounds each up to 256 tokens: almost 1 GiB of the large model.
LLAMA_CONTEXT = 8192


def command(variant: Variant, model: str, port: int) -> list[str]:
    checkpoint = str(paths.checkpoint(model))
    common = ["--host", load.HOST, "--port", str(port)]
    limits = ["--served-model-name", load.MODEL, "--max-num-seqs", str(BATCH), "--max-model-len", str(MAX_LENGTH)]
    match variant.engine:
        case "openlathe":
            serve = [str(paths.OURS / "bin" / "serve"), checkpoint, *common, *limits]
            serve += ["--kv-cache-memory-bytes", str(KV_BYTES), "--disable-uvicorn-access-log"]
            serve += ["--packed-cache-dir", str(paths.PACKED)]  # as llama.cpp reads a file of its own format
            return serve if variant.weights == "bf16" else [*serve, "--quantization", variant.weights]
        case "vllm":
            serve = [str(paths.python("vllm")), "-m", "vllm.entrypoints.openai.api_server", "--model", checkpoint]
            return [*serve, *common, *limits, "--dtype", "bfloat16", "--disable-uvicorn-access-log"]
        case "llamacpp":
            serve = [str(BINARIES / "llama-server"), "-m", str(paths.gguf(model, variant.weights)), *common]
            slots = str(LOADS[model][0])
            return [*serve, "-t", str(THREADS), "-c", str(LLAMA_CONTEXT), "-np", slots, "--alias", load.MODEL]
    raise ValueError(f"{variant.engine} has no server")


@contextmanager
def running(variant: Variant, model: str, log: Path, environment: dict[str, str]) -> Iterator[tuple[int, int, float]]:
    """The server's process and port while the block runs, and the seconds from its start to its first token."""
    with socket.socket() as probe:
        probe.bind((load.HOST, 0))
        port = probe.getsockname()[1]
    started = time.perf_counter()
    with (
        log.open("w") as output,
        resident(command(variant, model, port), paths.ROOT, environment, output, output) as server,
    ):
        asyncio.run(first_token(server, port))
        yield server.pid, port, time.perf_counter() - started


async def first_token(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            await load.complete(port, [1000] * 16, 1)
            return
        except (OSError, load.Refused):
            await asyncio.sleep(0.01)
    raise RuntimeError("the server gave no token")


def under_load(process: int, port: int, model: str, seed: int) -> dict[str, float]:
    """The load of a row behind a short one that warms up."""
    clients, requests = LOADS[model]
    draw = random.Random(seed)
    asyncio.run(asyncio.wait_for(load.load(port, clients, clients, draw, WARMING), LOAD_SECONDS))
    before = cpu_seconds(tree(process))
    figure = asyncio.run(asyncio.wait_for(load.load(port, clients, requests, draw, load.NEW_TOKENS), LOAD_SECONDS))
    return figure | {"cpu": (cpu_seconds(tree(process)) - before) / (requests * load.NEW_TOKENS)}
