"""Native libraries for the tests that go through every instruction set."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from openlathe_plugin_cpu import build, facts, loading


@pytest.fixture(params=build.levels(), ids=lambda level: level.name)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[build.Level]:
    """Each instruction set of this architecture in turn, as the one that is loaded; a CPU without it skips it."""
    if not request.param.needs <= facts._features():
        pytest.skip(f"this CPU has no {request.param.name}")
    monkeypatch.setattr(loading, "best_level", lambda: request.param)
    loading.native.cache_clear()
    assert loading.native().path.name.startswith(request.param.name)
    yield request.param
    loading.native.cache_clear()
