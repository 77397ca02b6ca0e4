"""``serve`` as a process to its end: signals, drains, time limits, and engines that die under load."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

LONG = {"prompt": "Hi", "max_tokens": 3000, "ignore_eos": True, "stream": True}
#: What is promised is two seconds; a machine that is busy with other tests gets more.
SOON = 10.0
#: Of the tiny checkpoint: keys and values of 2 layers, 2 heads of 32 numbers in float32.
KV_BYTES_PER_TOKEN = 2 * 2 * 2 * 32 * 4


@contextmanager
def streaming(http: httpx.Client, **fields: Any) -> Iterator[Iterator[str]]:
    """The lines of a stream of which the first one has come."""
    with http.stream("POST", "/v1/completions", json={**LONG, **fields}) as response:
        lines = (line for line in response.iter_lines() if line)
        next(lines)
        yield lines


def last_event(lines: Iterator[str]) -> dict[str, Any]:
    """What a stream says before its end, which it must have."""
    *_, last, done = lines
    assert done == "data: [DONE]"
    event: dict[str, Any] = json.loads(last.removeprefix("data: "))
    return event


def error_of(response: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    return error


# -- stopping -----------------------------------------------------------------------------------------------------


def test_sigterm_ends_it_cleanly_even_in_mid_stream(start_server: Any, tiny_checkpoint: Path) -> None:
    with start_server(tiny_checkpoint) as server:
        with server.http as http, streaming(http) as lines:
            server.process.send_signal(signal.SIGTERM)
            assert last_event(lines)["error"]["code"] == "server_stopping"
        assert server.process.wait(15) == 0
        log = server.log.read_text()
        assert "Traceback" not in log
        assert "ERROR" not in log


def test_running_requests_end_in_peace_and_no_new_ones_are_let_in(start_server: Any, tiny_checkpoint: Path) -> None:
    with start_server(tiny_checkpoint, "--shutdown-timeout", "60") as server:
        with server.http as http, server.http as other, streaming(http, max_tokens=1000) as lines:
            assert other.get("/health").status_code == 200
            server.process.send_signal(signal.SIGTERM)
            while (health := other.get("/health")).status_code == 200:
                time.sleep(0.01)
            for refused in (health, other.post("/v1/completions", json={"prompt": "Hi"}), server.http.get("/health")):
                assert refused.status_code == 503
                assert error_of(refused)["code"] == "server_stopping"
                assert refused.headers["connection"] == "close"
                assert int(refused.headers["retry-after"]) > 0
            assert last_event(lines)["choices"][0]["finish_reason"] == "length"
        assert server.process.wait(15) == 0


def test_what_outlasts_the_shutdown_timeout_ends_with_an_error(start_server: Any, tiny_checkpoint: Path) -> None:
    with start_server(tiny_checkpoint, "--shutdown-timeout", "0.5") as server:
        with server.http as http, streaming(http, max_tokens=3900, n=16) as lines:
            server.process.send_signal(signal.SIGTERM)
            assert last_event(lines)["error"]["code"] == "server_stopping"
        assert server.process.wait(15) == 0


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(start_server: Any, tiny_checkpoint: Path, second: signal.Signals) -> None:
    with start_server(tiny_checkpoint, "--shutdown-timeout", "600") as server:
        (engine,) = server.children
        with server.http as http, streaming(http, max_tokens=3900, n=16) as lines:
            server.process.send_signal(signal.SIGTERM)
            with server.http as other:
                while other.get("/health").status_code == 200:
                    time.sleep(0.01)
            server.process.send_signal(second)
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)
        assert server.process.wait(15) == -second
        assert ends(engine)


def ends(pid: int) -> bool:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


# -- engines that die -----------------------------------------------------------------------------------------------


def kill_under_load(server: Any, streams: int) -> tuple[list[dict[str, Any]], float]:
    """The last event of each stream that was open when the engine was killed, and the seconds until all had come."""
    killed = threading.Barrier(streams + 1)

    def follow() -> dict[str, Any]:
        with server.http as http, streaming(http) as lines:
            killed.wait(60)
            return last_event(lines)

    with ThreadPoolExecutor(streams) as pool:
        events = [pool.submit(follow) for _ in range(streams)]
        killed.wait(60)
        (engine,) = server.children
        os.kill(engine, signal.SIGKILL)
        started = time.monotonic()
        return [event.result(60) for event in events], time.monotonic() - started


def test_an_engine_killed_under_load_takes_the_server_with_it(start_server: Any, tiny_checkpoint: Path) -> None:
    with start_server(tiny_checkpoint) as server:
        whole = ThreadPoolExecutor(1).submit(
            httpx.post, f"{server.url}/v1/completions", json={**LONG, "stream": False}, timeout=60
        )
        events, seconds = kill_under_load(server, 16)
        assert {event["error"]["code"] for event in events} == {"engine_dead"}
        assert seconds < SOON
        assert whole.result(SOON).status_code == 503
        assert server.process.wait(15) == 1
        log = server.log.read_text()
        assert "signal 9" in log
        assert "Traceback" not in log
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((httpx.URL(server.url).host, httpx.URL(server.url).port))


def test_an_engine_is_started_again_as_often_as_allowed(start_server: Any, tiny_checkpoint: Path) -> None:
    with start_server(tiny_checkpoint, "--engine-restarts", "2") as server:
        body = {"prompt": "Hi", "max_tokens": 8, "temperature": 0}
        with server.http as http:
            expected = http.post("/v1/completions", json=body).json()["choices"]
            for _ in range(2):
                events, seconds = kill_under_load(server, 4)
                assert {event["error"]["code"] for event in events} == {"engine_dead"}
                assert seconds < SOON
                for refused in (http.get("/health"), http.post("/v1/completions", json=body)):
                    assert refused.status_code == 503
                    assert error_of(refused)["code"] == "engine_restarting"
                    assert int(refused.headers["retry-after"]) > 0
                assert http.get("/metrics").status_code == 200
                until = time.monotonic() + 60
                while http.get("/health").status_code != 200:
                    assert time.monotonic() < until, server.log.read_text()
                    time.sleep(0.05)
                assert http.post("/v1/completions", json=body).json()["choices"] == expected
                assert server.settles()
            assert server.gauge("engine_restarts_total") == 2
            kill_under_load(server, 1)
        assert server.process.wait(15) == 1


# -- time limits ----------------------------------------------------------------------------------------------------


def test_a_request_gets_no_more_time_than_the_server_allows(start_server: Any, tiny_checkpoint: Path) -> None:
    with start_server(tiny_checkpoint, "--request-timeout", "0.5") as server, server.http as http:
        body = {**LONG, "max_tokens": 3900, "n": 16}
        for timeout in (None, 100, 0.25):
            assert server.settles()  # so that the first token comes in time
            with streaming(http, **body, timeout=timeout) as lines:
                assert last_event(lines)["error"]["message"].startswith(
                    f"The request was not done within {min(timeout or 0.5, 0.5)} seconds"
                )
        assert server.settles()
        late = http.post("/v1/completions", json={**body, "stream": False})
        assert late.status_code == 408
        assert error_of(late)["code"] == "request_timeout"
        assert server.gauge("request_timeouts_total") == 4
        assert server.settles()
        assert http.post("/v1/completions", json={"prompt": "Hi", "max_tokens": 1}).status_code == 200


# -- sleep ----------------------------------------------------------------------------------------------------------


def test_sleep_gives_the_engines_memory_back_and_waking_the_same_answers(
    start_server: Any, tiny_checkpoint: Path
) -> None:
    flags = ("--enable-sleep-mode", "--enable-admin-routes", "--num-gpu-blocks-override", "1100")
    with start_server(tiny_checkpoint, *flags) as server, server.http as http:
        (engine,) = server.children
        # Every block is used once, so that the whole KV cache is resident.
        fill = {"prompt": [[1 + index] * 4000 for index in range(4)], "max_tokens": 1}
        body = {"prompt": "Hi", "max_tokens": 16, "temperature": 0, "ignore_eos": True}
        expected = http.post("/v1/completions", json=body).json()["choices"]
        for level in (1, 2):
            assert http.post("/v1/completions", json=fill).status_code == 200
            awake = anonymous_memory(engine)
            with streaming(http) as lines:
                assert server.http.post(f"/sleep?level={level}").status_code == 200
                assert last_event(lines)["error"]["code"] == "engine_asleep"
            assert awake - anonymous_memory(engine) > 0.9 * 4 * 4000 * KV_BYTES_PER_TOKEN
            assert http.get("/is_sleeping").json() == {"is_sleeping": True}
            assert http.get("/health").status_code == 200
            assert error_of(http.post("/v1/completions", json=body))["code"] == "engine_asleep"
            assert http.post("/wake_up?tags=weights").status_code == 200
            assert http.get("/is_sleeping").json() == {"is_sleeping": True}
            assert http.post("/wake_up").status_code == 200
            assert http.post("/v1/completions", json=body).json()["choices"] == expected
            assert http.post("/reset_prefix_cache").status_code == 200
        assert server.settles()


def anonymous_memory(pid: int) -> int:
    """Resident bytes of a process that no file stands behind."""
    found = re.search(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
