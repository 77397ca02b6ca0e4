"""What every test here stands on: one thread per process, nothing from the network, checkpoints made once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).parent

# Before anything imports torch: test processes share the cores, a pool of threads in each would only get in the way.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OPENLATHE_TEST_CACHE", str(ROOT / ".cache" / "openlathe"))

# A busy machine takes its time over an example; what never ends runs into pytest's own limit.
settings.register_profile("openlathe", deadline=None)
settings.load_profile("openlathe")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository, for tests that read files or run commands there."""
    return ROOT


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Path:
    """A random two-layer Qwen3 in float32, written by transformers; read only."""
    from openlathe_sdk.checkpoints import tiny_qwen3

    return tiny_qwen3()


@pytest.fixture(scope="session")
def scripted_checkpoint() -> Path:
    """A small Qwen3 that has learnt scripted dialogues with reasoning and a tool call; read only."""
    from openlathe_sdk.checkpoints import scripted_qwen3

    return scripted_qwen3()


@pytest.fixture(scope="session")
def trained_checkpoint() -> Path:
    """A small Qwen3 that continues tales it has never seen, some words with certainty and some not; read only."""
    from openlathe_sdk.checkpoints import trained_qwen3

    return trained_qwen3()
