"""What is inside the wheels, and what they do in an environment that holds nothing else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import zipfile
from pathlib import Path

import httpx
import pytest


def test_wheels_hold_the_whole_package_and_nothing_else(members, wheels):
    built = {path.name.split("-")[0]: path for path in wheels.glob("*.whl")}
    assert sorted(built) == sorted(member.name.replace("-", "_") for member in members)
    for member in members:
        with zipfile.ZipFile(built[member.name.replace("-", "_")]) as wheel:
            names = set(wheel.namelist())
        package = {name for name in names if ".dist-info/" not in name}
        source = member.package.parent
        files = (path.relative_to(source) for path in member.package.rglob("*") if path.is_file())
        assert package == {str(path) for path in files if "__pycache__" not in path.parts}
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_core_alone_and_a_plugin_that_comes_and_goes(environment, tiny_checkpoint):
    environment.install("openlathe-core")
    listed = plugins(environment)
    assert {plugin["distribution"] for plugin in listed} == {"openlathe-core"}

    refused = environment.run("serve", str(tiny_checkpoint))
    assert refused.returncode != 0
    (sentence,) = refused.stderr.strip().splitlines()
    assert "Qwen3ForCausalLM" in sentence
    assert "openlathe-plugin-qwen3" in sentence

    environment.install("openlathe-plugin-json-calls")
    (added,) = (plugin for plugin in plugins(environment) if plugin["distribution"] != "openlathe-core")
    assert (added["distribution"], added["state"]) == ("openlathe-plugin-json-calls", "active")
    environment.install("openlathe-sdk")
    kit = environment.run("pytest", "--pyargs", "openlathe_sdk.conformance", "--plugin", "openlathe-plugin-json-calls")
    assert kit.returncode == 0, kit.stdout
    assert "torch" not in environment.pip("list"), "the author of a parser needs no torch"

    environment.pip("uninstall", "--yes", "openlathe-plugin-json-calls")
    assert plugins(environment) == listed


@pytest.mark.timeout(600)
def test_two_packages_serve_a_checkpoint(environment, scripted_checkpoint, free_port):
    environment.install("openlathe-core", "openlathe-plugin-qwen3")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [environment.folder / "bin" / "serve", scripted_checkpoint, "--port", str(free_port)]
    log = environment.folder / "serve.log"
    with log.open("w") as stream:
        server = subprocess.Popen(command, cwd=environment.folder, env=env, stdout=stream, stderr=stream)
    try:
        url = f"http://127.0.0.1:{free_port}"
        wait_until_healthy(url, server, log)
        question = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}
        answer = httpx.post(
            f"{url}/v1/chat/completions", json=question | {"model": str(scripted_checkpoint)}, timeout=60
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["completion_tokens"] > 0
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0, log.read_text()


def plugins(environment) -> list[dict]:
    done = environment.run("core", "plugins", "list", "--json")
    assert done.returncode == 0, done.stderr
    return [{**plugin, "import_ms": None} for plugin in json.loads(done.stdout)["plugins"]]


def wait_until_healthy(url: str, server: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/health", timeout=1).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    pytest.fail(f"not healthy after two minutes:\n{log.read_text()}")
