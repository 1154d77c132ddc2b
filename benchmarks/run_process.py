"""`train.py` as a process of its own: started, listened to, signalled, waited for."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.environment import ROOT
from benchmarks.proc import session_processes


class RunProcess:
    """A process that trains, in a session of its own; what it says goes to files."""

    def __init__(self, arguments: Sequence[str], log: Path, variables: Mapping[str, str]) -> None:
        self._output, self._errors = log.with_suffix(".out"), log.with_suffix(".err")
        self.began = time.monotonic()
        with self._output.open("w") as output, self._errors.open("w") as errors:
            self._child = subprocess.Popen(
                [sys.executable, str(ROOT / "train.py"), *arguments],
                cwd=ROOT,
                env=dict(variables),
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Return its number, which is its session's too."""
        return self._child.pid

    @property
    def code(self) -> int | None:
        """Return its exit status, or None while it runs; less than 0 is a signal."""
        return self._child.poll()

    def said(self) -> str:
        """Return what it has printed so far: nothing before its run is ready to train."""
        return self._output.read_text(errors="replace")

    def complaint(self) -> list[str]:
        """Return the lines of its standard error."""
        return self._errors.read_text(errors="replace").strip().splitlines()

    def send(self, number: signal.Signals) -> None:
        """Signal the process itself, not those that it started: so do schedulers and the kernel."""
        self._child.send_signal(number)

    def wait(self, limit_s: float) -> int | None:
        """Return the exit status, or None where it still runs after so long."""
        try:
            return self._child.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            return None

    def left_behind(self, limit_s: float) -> list[int]:
        """Return the processes that it started and that still run so long after it ended."""
        until = time.monotonic() + limit_s
        while (left := session_processes(self.pid)) and time.monotonic() < until:
            time.sleep(0.05)
        return left

    def end(self) -> None:
        """End it at once, with all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._child.wait()


def run_variables(platform: str, cache: Path) -> dict[str, str]:
    """Return the environment of a run that finds what an earlier one compiled in `cache`."""
    return {
        **os.environ,
        "JAX_PLATFORMS": platform,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONUNBUFFERED": "1",  # a killed process takes what it has not yet printed with it
    }
