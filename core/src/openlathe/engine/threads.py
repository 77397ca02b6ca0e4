"""The threads that compute on a CPU: how many, and which CPU each of them keeps."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import torch

from ..devices import usable_cpus

_TASKS = Path("/proc/self/task")
#: Elements of an operation that torch shares among all of its threads.
_SHARED = 1 << 20


def set_threads(wanted: int | None) -> None:
    """As many as were asked for, else as the environment says, else all CPUs that this process may use, of which torch
    would count physical cores only. Threads for all of them are bound.

    To be called in the thread that will compute: OpenMP gives each such thread a team of its own.
    """
    if wanted is not None:
        torch.set_num_threads(wanted)
    elif "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(usable_cpus())
    if torch.get_num_threads() > 1 and _TASKS.is_dir() and "OMP_PROC_BIND" not in os.environ:
        _bind()


def _bind() -> None:
    """Gives each thread of this one's team a CPU, where there are as many of these as threads.

    Threads that wait for each other at every operator look idle by turns, so that a scheduler which sees another
    process on the next CPU may leave two of them on one for good: a step then takes ten times as long and more.
    """
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) != torch.get_num_threads():
        return
    before = set(os.listdir(_TASKS))
    torch.zeros(_SHARED).add_(1)  # the team is made when it is first needed
    helpers = sorted(map(int, set(os.listdir(_TASKS)) - before))
    if len(helpers) == len(cpus) - 1:
        for thread, cpu in zip((threading.get_native_id(), *helpers), cpus, strict=True):
            os.sched_setaffinity(thread, {cpu})
