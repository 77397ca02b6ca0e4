"""The commands of the Makefile, but for those that take minutes."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import openai
import pytest

from openlathe_sdk.checkpoints.scripts import CHAT_ANSWER, CHAT_CALL, CHAT_GREETING


def make(repository: Path, *args: str) -> subprocess.CompletedProcess[str]:
    outer = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")  # `make test` runs us and is not to be noticed
    environ = {name: value for name, value in os.environ.items() if name not in outer}
    return subprocess.run(["make", *args], cwd=repository, env=environ, capture_output=True, text=True)


def test_help_lists_every_target(repository):
    phony = re.search(r"^\.PHONY: (.*)$", (repository / "Makefile").read_text(), re.MULTILINE)
    shown = re.findall(r"^  make ([a-z-]+) ", make(repository, "help").stdout, re.MULTILINE)
    assert sorted(shown) == sorted(phony[1].split())
    assert make(repository).stdout == make(repository, "help").stdout


def test_setup_runs_again_only_where_a_version_or_a_member_changed(repository, tmp_path):
    question = ("--question", f"VENV={tmp_path}", f"{tmp_path}/.ready")
    for stamp in (".pinned", ".ready"):
        (tmp_path / stamp).touch()
    assert make(repository, *question).returncode == 0
    for changed in ("constraints.txt", "plugins/models/qwen3/pyproject.toml"):
        assert make(repository, *question, "--what-if", changed).returncode == 1


@pytest.mark.parametrize("python", ["false", "no-such-python"])
def test_a_python_too_old_is_one_sentence(repository, tmp_path, python):
    done = make(repository, "setup", f"VENV={tmp_path}/venv", f"PYTHON={python}")
    first, *rest = done.stderr.splitlines()
    assert first == (
        f"openlathe needs Python 3.11 or newer and '{python}' is not: name one, as in 'make setup PYTHON=python3.12'."
    )
    assert all(line.startswith("make: ***") for line in rest)
    assert not (tmp_path / "venv").exists()


def test_serve_without_a_model_serves_the_demonstration(repository, free_port):
    served = subprocess.Popen(
        ["make", "serve", f"ARGS=--port {free_port}"], cwd=repository, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_until_ready(served)
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{free_port}/v1", api_key="none")
        assert [model.id for model in client.models.list()] == ["demo"]
    finally:
        served.terminate()
        served.communicate(timeout=30)


def test_continuous_integration_runs_the_test_command_of_the_readme(repository):
    script = repository / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert script.read_text().splitlines()[-1] == "exec make test"
    assert re.search(r"^make test$", (repository / "README.md").read_text(), re.MULTILINE)


def test_serve_holds_a_streamed_conversation_with_a_tool_call(repository, scripted_checkpoint, free_port):
    """The way of the README from its first command on: `make serve`, then OpenAI's client."""
    command = ["make", "serve", f"MODEL={scripted_checkpoint}", f"ARGS=--port {free_port}"]
    served = subprocess.Popen(command, cwd=repository, stderr=subprocess.PIPE, text=True)
    try:
        wait_until_ready(served)
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{free_port}/v1", api_key="none")
        history: list[dict] = []
        calls: list[dict] = []
        for script in (CHAT_GREETING, CHAT_CALL, CHAT_ANSWER):
            for message in script.messages[len(history) :]:
                replied_to = {"tool_call_id": calls[0]["id"]} if message["role"] == "tool" else {}
                history.append(message | replied_to)
            answer = streamed(client, str(scripted_checkpoint), history, script.tools)
            assert (answer["content"], answer["reasoning"]) == (script.content, script.reasoning)
            calls = answer["calls"]
            assert [(call["name"], json.loads(call["arguments"])) for call in calls] == [
                (call.name, call.arguments) for call in script.calls
            ]
            history.append(script.reply() | ({"tool_calls": sent_back(calls)} if calls else {}))
    finally:
        served.terminate()
        served.communicate(timeout=30)


def wait_until_ready(served: subprocess.Popen) -> None:
    """Reads the log up to the line that says where the server listens."""
    for line in served.stderr:
        if line.split()[:1] == ["ready"]:
            return
    pytest.fail("`make serve` ended before it was ready")


def streamed(client: openai.OpenAI, model: str, messages: list, tools: list) -> dict:
    """One answer, folded from its chunks as any client would."""
    answer = {"content": "", "reasoning": "", "calls": []}
    stream = client.chat.completions.create(model=model, messages=messages, tools=tools, temperature=0, stream=True)
    for chunk in stream:
        delta = chunk.choices[0].delta
        answer["content"] += delta.content or ""
        answer["reasoning"] += getattr(delta, "reasoning", None) or ""
        for call in delta.tool_calls or ():
            if call.index == len(answer["calls"]):
                answer["calls"].append({"id": call.id, "name": call.function.name, "arguments": ""})
            answer["calls"][call.index]["arguments"] += call.function.arguments or ""
    return answer


def sent_back(calls: list[dict]) -> list[dict]:
    return [
        {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
        for call in calls
    ]
