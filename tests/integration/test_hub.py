"""A model named by its hub id, downloaded through huggingface_hub from a hub that lives in the test."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

REPO = "acme/tiny-qwen3"
GATED = "acme/secret"
COMMIT = "c0ffee" + "0" * 34
TOKEN = "hf_let_me_in"


class Hub(ThreadingHTTPServer):
    """The routes of a hub that a download takes: repository facts, file tree, files with ETag and commit."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self.fetched: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if found := re.fullmatch(r"/api/models/([\w-]+/[\w-]+)/(revision|tree)/(\w+)", path):
            repo, kind, revision = found.groups()
            if self._admits(repo, revision):
                self._json(self._facts(repo) if kind == "revision" else self._tree())
        elif found := re.fullmatch(r"/([\w-]+/[\w-]+)/resolve/(\w+)/([\w.-]+)", path):
            repo, revision, name = found.groups()
            if self._admits(repo, revision):
                self._file(name)
        else:
            self._refuse(404, "EntryNotFound")

    do_HEAD = do_GET

    def _admits(self, repo: str, revision: str) -> bool:
        if repo not in (REPO, GATED):
            self._refuse(401, "RepoNotFound")
        elif repo == GATED and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._refuse(403, "GatedRepo")
        elif revision not in ("main", COMMIT):
            self._refuse(404, "RevisionNotFound")
        else:
            return True
        return False

    def _facts(self, repo: str) -> dict:
        siblings = [{"rfilename": name} for name in self.server.files]
        return {"id": repo, "modelId": repo, "sha": COMMIT, "private": False, "siblings": siblings}

    def _tree(self) -> list[dict]:
        files = self.server.files.items()
        return [{"type": "file", "path": name, "size": len(data), "oid": _etag(data)} for name, data in files]

    def _file(self, name: str) -> None:
        data = self.server.files.get(name)
        if data is None:
            self._refuse(404, "EntryNotFound")
            return
        if self.command == "GET":
            self.server.fetched.append(name)
        self._answer(200, data, {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": COMMIT})

    def _json(self, content: object) -> None:
        self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, b"", {"X-Error-Code": code, "X-Error-Message": code})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture
def hub(tiny_checkpoint: Path) -> Iterator[Hub]:
    with Hub(tiny_checkpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def environ(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """The environment of a machine that knows this hub and has downloaded nothing yet."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING_FACE"))}
    return {**kept, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}


def command(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def core(environ: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([command("core"), *args], env=environ, capture_output=True, text=True)


def test_a_plan_needs_no_weights(hub, environ):
    done = core(environ, "plan", REPO, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["architecture"] == "Qwen3ForCausalLM"
    assert "config.json" in hub.fetched
    assert not any(name.endswith(".safetensors") for name in hub.fetched)


@pytest.mark.parametrize(
    ("repo", "flags", "reason"),
    [
        ("acme/none", (), "the hub does not know it"),
        (REPO, ("--revision", "gone"), "no revision 'gone'"),
        (GATED, (), "must grant you access"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(environ, repo, flags, reason):
    done = core(environ, "plan", repo, *flags)
    assert done.returncode != 0
    (sentence,) = done.stderr.strip().splitlines()
    assert repo in sentence
    assert reason in sentence


def test_a_token_opens_a_gated_repository(environ):
    assert core({**environ, "HF_TOKEN": TOKEN}, "plan", GATED, "--json").returncode == 0


def test_a_hub_out_of_reach_is_one_sentence(environ):
    done = core({**environ, "HF_ENDPOINT": "http://127.0.0.1:9"}, "plan", REPO)
    assert done.returncode != 0
    (sentence,) = done.stderr.strip().splitlines()
    assert "the hub cannot be reached" in sentence


def test_serve_downloads_once_and_starts_from_the_cache_afterwards(hub, environ, tmp_path):
    first = served_model(environ, tmp_path)
    downloaded = list(hub.fetched)
    assert any(name.endswith(".safetensors") for name in downloaded)
    assert len(set(downloaded)) == len(downloaded), "a file was downloaded twice"

    offline = {**environ, "HF_ENDPOINT": "http://127.0.0.1:9"}
    assert served_model(offline, tmp_path) == first == REPO
    assert hub.fetched == downloaded


def served_model(environ: dict[str, str], tmp_path: Path) -> str:
    """Starts `serve` on the hub id, asks which model it serves, stops it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "serve.log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            [command("serve"), REPO, "--port", str(port)], env=environ, stdout=stream, stderr=stream
        )
    try:
        return wait_for_models(f"http://127.0.0.1:{port}/v1/models", server, log)["data"][0]["id"]
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0, log.read_text()


def wait_for_models(url: str, server: subprocess.Popen, log: Path) -> dict:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            return httpx.get(url, timeout=5).raise_for_status().json()
        except httpx.TransportError:
            time.sleep(0.1)
    pytest.fail(f"not up after a minute:\n{log.read_text()}")
