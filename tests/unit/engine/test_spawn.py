"""What the engine's process is given on its way."""

from __future__ import annotations

import pytest

from openlathe.engine.spawn import environment


def test_threads_of_the_engine_do_not_spin_for_long() -> None:
    given = {"PATH": "/bin"}
    assert environment(given) == {"PATH": "/bin", "GOMP_SPINCOUNT": "4000"}
    assert given == {"PATH": "/bin"}


@pytest.mark.parametrize("decided", [{"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}], ids=str)
def test_who_has_decided_how_threads_wait_is_left_alone(decided: dict[str, str]) -> None:
    assert environment(decided) == decided
