"""Installs each peer into an environment of its own, every version pinned in ``requirements/``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from . import llamacpp, paths

REQUIREMENTS = Path(__file__).with_name("requirements")
TCMALLOC = "libtcmalloc-minimal4"
CMAKE_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DGGML_NATIVE=ON",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_APP=OFF",
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    "-DLLAMA_OPENSSL=OFF",
)


def install(names: Iterable[str]) -> None:
    """Peers by name, and what converts for them; what is there already is left as it is."""
    for name in names:
        for part in PARTS[name]:
            stamp = paths.environment(part) / ".installed"
            if not stamp.exists():
                print(f"installing {part}", flush=True)
                STEPS[part](part)
                stamp.touch()


def from_lock(name: str) -> None:
    """A virtual environment with exactly the distributions of ``requirements/NAME.txt``, whatever they ask for."""
    subprocess.run([sys.executable, "-m", "venv", str(paths.environment(name))], check=True)
    _pip(name, "install", "--no-deps", "-r", str(REQUIREMENTS / f"{name}.txt"))


def vllm(name: str) -> None:
    """With the allocator that vLLM advises, where Debian's package of it is to be had."""
    from_lock(name)
    folder = paths.environment(name) / "debian"
    folder.mkdir(exist_ok=True)
    if shutil.which("apt-get") and not subprocess.run(["apt-get", "download", TCMALLOC], cwd=folder).returncode:
        (package,) = folder.glob(f"{TCMALLOC}*.deb")
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)


def llama(name: str) -> None:
    """The server and the measuring programs of llama.cpp, built for this very processor; takes some ten minutes."""
    home = paths.environment(name)
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    release = f"llama-cpp-python=={llamacpp.VERSION}"
    _pip(name, "download", "--no-deps", "--no-binary", ":all:", "--dest", str(llamacpp.PACKAGE.parent), release)
    shutil.unpack_archive(f"{llamacpp.PACKAGE}.tar.gz", llamacpp.PACKAGE.parent)
    folders = ["-S", str(llamacpp.SOURCE), "-B", str(llamacpp.BUILD)]
    subprocess.run(["cmake", *folders, *CMAKE_OPTIONS], check=True)
    subprocess.run(
        ["cmake", "--build", str(llamacpp.BUILD), f"-j{os.cpu_count()}", "--target", *llamacpp.PROGRAMS], check=True
    )


def _pip(name: str, *arguments: str) -> None:
    quiet = ["--quiet", "--disable-pip-version-check"]
    subprocess.run([str(paths.python(name)), "-m", "pip", *arguments, *quiet], check=True)


STEPS: dict[str, Callable[[str], None]] = {"vllm": vllm, "openvino": from_lock, "export": from_lock, "llamacpp": llama}
#: Peer -> the environments it needs: those of another kind convert its checkpoints.
PARTS = {
    "vllm": ("vllm",),
    "openvino": ("export", "openvino"),
    "llamacpp": ("export", "llamacpp"),
    "transformers": (),
}
