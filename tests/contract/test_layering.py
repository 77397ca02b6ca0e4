"""Who may import whom, read from the syntax trees; imports under ``if TYPE_CHECKING`` do not count."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORE = ROOT / "core" / "src" / "openlathe"
PLUGINS = sorted(ROOT.glob("plugins/**/src/openlathe_plugin_*"))

TORCH = {"torch", "numpy", "safetensors", "triton"}
HTTP = {"starlette", "uvicorn", "httpx", "http", "fastapi", "aiohttp", "requests", "urllib3"}

#: Parts of core that serve people and programs, and so must start without a tensor library.
TORCH_FREE = (
    "spi",
    "plugins",
    "parsing",
    "frontend",
    "server",
    "cli",
    "config.py",
    "checkpoint.py",
    "devices.py",
    "builtin.py",
)
#: Parts of core that compute.
HTTP_FREE = ("spi", "plugins", "parsing", "frontend", "engine", "layers", "kernels", "config.py")

#: Folder of a plugin -> what of core it may import besides openlathe.spi.
GRANTED = {
    "models": ("layers", "kernels"),
    "backends/attention": ("layers", "kernels"),
    "backends/kernels": ("layers", "kernels"),
    "backends": ("layers", "kernels"),
    "parsers": ("parsing",),
    "chat_templates": (),
    "routes": ("server.api",),
    "commands": ("api",),
}


def sources(*parts: str) -> list[Path]:
    found = []
    for part in parts:
        path = CORE / part
        found += [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))
    return [path for path in found if path.exists()]


def module_of(path: Path) -> str:
    base = next(parent for parent in path.parents if parent.name == "src")
    parts = path.relative_to(base).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path, *, module_level: bool = False) -> set[str]:
    """Modules that a file imports when it runs, in full; what comes from a package may be a module of it."""
    module = module_of(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in _statements(ast.parse(path.read_text(encoding="utf-8")), module_level):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            origin = ".".join(filter(None, [base if node.level else "", node.module]))
            found |= {origin} | {f"{origin}.{alias.name}" for alias in node.names if _is_ours(f"{origin}.{alias.name}")}
    return found


def _statements(tree: ast.AST, module_level: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from (item for branch in node.orelse for item in (branch, *_statements(branch, module_level)))
        elif not (module_level and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)):
            yield node
            yield from _statements(node, module_level)


def _file(module: str) -> Path | None:
    path = CORE.parent.joinpath(*module.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.exists()), None)


def _is_ours(module: str) -> bool:
    return module.startswith("openlathe.") and _file(module) is not None


def top(module: str) -> str:
    return module.partition(".")[0]


@cache
def reach(module: str) -> frozenset[str]:
    """Everything that importing one of our modules imports, at once and through others of ours."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name.startswith("openlathe") and (file := _file(name)):
            waiting += imports(file, module_level=True)
            waiting += [".".join(name.split(".")[:depth]) for depth in range(1, name.count(".") + 1)]
    return frozenset(seen)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sources("spi"), ids=relative)
def test_the_contract_imports_the_standard_library_and_pluggy(path):
    for module in imports(path):
        assert top(module) in sys.stdlib_module_names | {"pluggy"} or module.startswith("openlathe.spi"), module


@pytest.mark.parametrize("path", sources("parsing"), ids=relative)
def test_parsing_imports_the_standard_library_and_the_contract(path):
    for module in imports(path):
        ours = module.startswith(("openlathe.spi", "openlathe.parsing"))
        assert top(module) in sys.stdlib_module_names or ours, module


@pytest.mark.parametrize("path", sources(*TORCH_FREE), ids=relative)
def test_what_serves_never_imports_torch(path):
    assert not {top(module) for module in imports(path)} & TORCH
    assert not {top(module) for module in reach(module_of(path))} & TORCH


@pytest.mark.parametrize("path", sources(*HTTP_FREE), ids=relative)
def test_what_computes_never_imports_http(path):
    for module in imports(path) | reach(module_of(path)):
        assert top(module) not in HTTP, module
        assert not module.startswith("openlathe.server"), module


@pytest.mark.parametrize("path", [file for folder in PLUGINS for file in sorted(folder.rglob("*.py"))], ids=relative)
def test_a_plugin_imports_what_is_contract(path):
    folder = relative(path).removeprefix("plugins/")
    granted = next(parts for name, parts in GRANTED.items() if folder.startswith(name))
    allowed = tuple(f"openlathe.{part}" for part in ("spi", *granted))
    for module in imports(path):
        if top(module) == "openlathe":
            assert module.startswith(allowed), f"{module} is private"


@pytest.mark.parametrize("folder", PLUGINS, ids=relative)
def test_a_plugin_module_holds_specs_only(folder):
    assert (folder / "__init__.py").read_text() == ""
    for module in imports(folder / "plugin.py"):
        assert top(module) in sys.stdlib_module_names or module.startswith("openlathe.spi"), module


@pytest.mark.parametrize(
    "path", sorted({*CORE.rglob("*.py"), *(f for p in PLUGINS for f in p.rglob("*.py"))}), ids=relative
)
def test_a_file_is_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 400
