"""What a process and its descendants use, as Linux counts it. Standard library only."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

TICKS = os.sysconf("SC_CLK_TCK")
GRACE_SECONDS = 15


def tree(root: int) -> list[int]:
    """``root`` and all its descendants that live."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                children.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def cpu_seconds(processes: Iterable[int]) -> float:
    """User and system time of living processes and of the children that they have waited for."""
    ticks = 0
    for process in processes:
        with suppress(OSError):
            ticks += sum(map(int, _stat(process)[11:15]))
    return ticks / TICKS


def peak_bytes(processes: Iterable[int]) -> int:
    """The most memory that was resident, anonymous and mapped; what processes share is counted once.

    Each process's peak is the kernel's own, so that no moment is missed; of several processes the peaks are taken as
    if they fell together. The shared part is that of now.
    """
    total = 0
    for process in processes:
        with suppress(OSError):
            peak = _kilobytes(Path(f"/proc/{process}/status"), "VmHWM")
            rollup = Path(f"/proc/{process}/smaps_rollup")
            total += peak - (_kilobytes(rollup, "Rss") - _kilobytes(rollup, "Pss"))
    return total * 1024


@contextmanager
def resident(
    command: list[str], cwd: Path, env: dict[str, str], log: IO[str], stdout: int | IO[str]
) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone, with all of its group, behind the block."""
    process = subprocess.Popen(command, cwd=cwd, env=env, stdout=stdout, stderr=log, text=True, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _stat(process: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` behind the name, which may hold blanks itself."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def _kilobytes(file: Path, field: str) -> int:
    for line in file.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    return 0
