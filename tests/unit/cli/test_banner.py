"""The lines that say what runs and where."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openlathe.cli.serve_cmd import banner
from openlathe.config import EngineConfig
from openlathe.plugins.assemble import assemble
from openlathe.plugins.plan import make_plan


@pytest.mark.parametrize(
    "settings, told, untold",
    [
        ({}, " parsers  tools hermes, reasoning qwen3", "pooling"),
        ({"runner": "pooling"}, " pooling  embed and token_embed, by last, activation normalize", "parsers"),
    ],
    ids=["generates", "pools"],
)
def test_what_becomes_of_an_answer(tiny_checkpoint: Path, settings: dict[str, Any], told: str, untold: str) -> None:
    plan = make_plan(EngineConfig(model=str(tiny_checkpoint), device="cpu", **settings), assemble())
    lines = banner(plan, "http://x", 1.0)
    assert told in lines
    assert untold not in lines
    assert "http://x/v1 after 1.0 s" in lines
    assert "about" not in lines
    assert "   about  small, and says so\n" in banner(plan, "http://x", 1.0, "small, and says so")
