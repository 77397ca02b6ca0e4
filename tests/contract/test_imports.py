"""What a quick command costs, told by what it imports: deterministic, unlike a clock."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "torch",
    "transformers",
    "numpy",
    "pydantic",
    "fastapi",
    "starlette",
    "uvicorn",
    "jinja2",
    "msgspec",
    "yaml",
    "tokenizers",
    "huggingface_hub",
    "safetensors",
    "httpx",
    "prometheus_client",
    "asyncio",
}
PROBE = """
import contextlib, io, sys
from openlathe.cli.main import main
with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
    main(sys.argv[1:])
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def imported(code: str, *argv: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "command",
    ["--help", "--version", "plugins list", "plugins list --json --long", "plugins check", "plugins why kernel"],
)
def test_quick_commands_import_nothing_heavy(command):
    modules = imported(PROBE, *command.split())
    assert "openlathe" in modules
    assert not modules & HEAVY


def test_the_help_of_serve_needs_no_engine():
    assert not imported(PROBE, "serve", "--help") & {"torch", "transformers", "numpy", "tokenizers", "uvicorn"}


def test_the_package_itself_is_free():
    code = "import sys, openlathe; print(*{name.partition('.')[0] for name in sys.modules})"
    assert not imported(code) & {*HEAVY, "pluggy", "argparse"}


def test_a_plan_is_made_without_torch(tiny_checkpoint):
    modules = imported(PROBE, "plan", str(tiny_checkpoint), "--device", "cpu")
    assert "openlathe_plugin_qwen3" in modules
    assert not modules & {"torch", "numpy", "transformers", "safetensors"}


def test_the_engines_process_is_started_by_the_standard_library_alone():
    code = "import sys, openlathe.engine.spawn; print(*{name.partition('.')[0] for name in sys.modules})"
    assert not imported(code) & {*HEAVY, "pluggy", "argparse"}


ENGINE_PROBE = """
import sys
from openlathe.config import EngineConfig
from openlathe.engine.core import EngineCore
from openlathe.plugins.assemble import assemble
from openlathe.plugins.plan import make_plan
settings = {"kv_cache_memory_bytes": 1 << 20, "max_model_len": 64}
EngineCore(make_plan(EngineConfig(model=sys.argv[1], device="cpu", **settings), assemble())).stop()
print(*sys.modules)
"""


def test_an_engine_imports_nothing_of_http_nor_what_only_compilers_need(tiny_checkpoint):
    modules = imported(ENGINE_PROBE, str(tiny_checkpoint))
    assert "torch" in modules
    assert not modules & (HEAVY - {"torch", "numpy", "msgspec", "asyncio"})
    assert not modules & {"sympy", "torch._dynamo", "torch._inductor", "pandas", "scipy"}
