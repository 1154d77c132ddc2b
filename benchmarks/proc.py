"""Read from Linux's /proc which processes a session has and what they use."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True)
class Holding:
    """What one process or several together use at one moment.

    Attributes:
      resident_bytes: in memory now, including mapped files.
      own_bytes: what they allocated, in memory or swapped out; the kernel cannot reclaim it.
    """

    resident_bytes: int
    own_bytes: int
    files: int
    threads: int
    processes: int


def require_proc() -> None:
    """Exit with an error if /proc does not exist."""
    if not (PROC / "self" / "status").exists():
        raise SystemExit(f"this benchmark reads {PROC}, which {sys.platform} does not have")


def session_processes(session: int) -> list[int]:
    """Return the running processes of a session, in order."""
    numbers = sorted(int(path.name) for path in PROC.iterdir() if path.name.isdigit())
    return [number for number in numbers if _runs_in(number, session)]


def holding(processes: list[int]) -> Holding:
    """Return what these processes use together; one that has just ended counts as nothing."""
    resident = own = files = threads = counted = 0
    for number in processes:
        try:
            status = _status(number)
            files += sum(1 for _ in (PROC / str(number) / "fd").iterdir())
        except (FileNotFoundError, ProcessLookupError):
            continue
        resident += 1024 * status.get("VmRSS", 0)
        own += 1024 * (status.get("RssAnon", 0) + status.get("VmSwap", 0))
        threads, counted = threads + status.get("Threads", 0), counted + 1
    return Holding(resident, own, files, threads, counted)


def cpu_seconds(processes: Sequence[int]) -> float:
    """Return the CPU time that these processes have used; one that has ended counts as 0."""
    ticks = 0
    for number in processes:
        try:
            fields = (PROC / str(number) / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += int(fields[11]) + int(fields[12])  # user and system time
    return ticks / os.sysconf("SC_CLK_TCK")


def _status(number: int) -> dict[str, int]:
    """Return the numbers in a process's status, sizes in KiB."""
    lines = (PROC / str(number) / "status").read_text().splitlines()
    pairs = (line.partition(":") for line in lines)
    words = ((name, *value.split()[:1]) for name, _, value in pairs)
    return {name: int(word[0]) for name, *word in words if word and word[0].isdigit()}


def _runs_in(number: int, session: int) -> bool:
    try:
        # The name before the last bracket can itself contain spaces and brackets.
        fields = (PROC / str(number) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    state, its_session = fields[0], int(fields[3])
    return state != "Z" and its_session == session
