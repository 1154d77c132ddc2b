"""`train.py` as one or several processes, and what its run folder shows from outside."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import ROOT
from benchmarks.proc import session_processes


class RunProcess:
    """A process that trains, in its own session; its output goes to files."""

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
        """Return its process id, which is also its session's."""
        return self._child.pid

    @property
    def code(self) -> int | None:
        """Return its exit status, negative for a signal, or None while it runs."""
        return self._child.poll()

    def said(self) -> str:
        """Return what it has printed so far; it prints nothing before it is ready to train."""
        return self._output.read_text(errors="replace")

    def complaint(self) -> list[str]:
        """Return the lines of its standard error."""
        return self._errors.read_text(errors="replace").strip().splitlines()

    def send(self, number: signal.Signals) -> None:
        """Signal the process itself, not its children, as schedulers and the kernel do."""
        self._child.send_signal(number)

    def wait(self, limit_s: float) -> int | None:
        """Return the exit status, or None if it still runs after `limit_s` seconds."""
        try:
            return self._child.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            return None

    def left_behind(self, limit_s: float) -> list[int]:
        """Return its child processes that still run `limit_s` seconds after it ended."""
        until = time.monotonic() + limit_s
        while (left := session_processes(self.pid)) and time.monotonic() < until:
            time.sleep(0.05)
        return left

    def end(self) -> None:
        """Kill it with all its child processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._child.wait()


def run_variables(platform: str, cache: Path) -> dict[str, str]:
    """Return the environment of a run that reuses the compiled programs in `cache`."""
    return {
        **os.environ,
        "JAX_PLATFORMS": platform,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "PYTHONUNBUFFERED": "1",  # the buffered output of a killed process is lost
    }


CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
# Orbax writes into such a folder and renames it to the step when it is complete.
_PARTIAL = ".orbax-checkpoint-tmp"


def whole_checkpoints(workdir: Path) -> list[int]:
    """Return the steps whose checkpoints are complete, in order."""
    return sorted(int(name) for name in _names(workdir) if name.isdigit())


def newest_checkpoint(workdir: Path) -> int:
    """Return the step from which the run continues, 0 if nothing was saved."""
    return max(whole_checkpoints(workdir), default=0)


def partial_checkpoints(workdir: Path) -> list[int]:
    """Return the steps of unfinished checkpoints, in progress or left by a killed run."""
    steps = (name.partition(_PARTIAL) for name in _names(workdir))
    return sorted(int(step) for step, mark, _ in steps if mark and step.isdigit())


def reached(workdir: Path) -> int:
    """Return the last step that left a trace: a row, or a complete or partial checkpoint."""
    logged = [int(row["step"]) for row in _whole_rows(workdir)]
    saved = whole_checkpoints(workdir) + partial_checkpoints(workdir)
    return max(logged + saved, default=0)


def read_rows(workdir: Path) -> list[dict[str, Any]]:
    """Return the rows of the metrics.

    Raises:
      ValueError: a line is not JSON.
    """
    path = workdir / METRICS
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _whole_rows(workdir: Path) -> Iterator[dict[str, Any]]:
    """Yield the last two rows that are complete: a killed run can leave half a row."""
    path = workdir / METRICS
    for line in path.read_text().splitlines()[-2:] if path.exists() else []:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def _names(workdir: Path) -> list[str]:
    try:
        return [path.name for path in (workdir / CHECKPOINTS).iterdir()]
    except FileNotFoundError:
        return []


def start_together(
    arguments: Sequence[str], logs: Path, variables: Sequence[Mapping[str, str]]
) -> list[RunProcess]:
    """Start one process of the run for each environment in `variables`.

    Args:
      logs: the common prefix of their logs; each process adds its number.
    """
    count = len(variables)
    shared = [*arguments, "--coordinator=off"]
    if count > 1:
        shared = [
            *arguments,
            f"--coordinator=localhost:{free_port()}",
            f"--process_count={count}",
        ]
    return [
        RunProcess(
            [*shared, f"--process_id={index}"] if count > 1 else shared,
            logs.with_name(f"{logs.name}-{index}"),
            environment,
        )
        for index, environment in enumerate(variables)
    ]


def wait_for_all(processes: Sequence[RunProcess], limit_s: float) -> list[str]:
    """Wait until all have ended, kill those that do not, and return descriptions of failures."""
    until = time.monotonic() + limit_s
    faults = []
    try:
        for index, process in enumerate(processes):
            code = process.wait(max(until - time.monotonic(), 0))
            if code != 0:
                ended = "did not end" if code is None else f"ended with {code}"
                last = " ".join(process.complaint()[-1:])
                faults.append(f"process {index} of {len(processes)} {ended}: {last}")
    finally:
        for process in processes:
            process.end()
    return faults


def free_port() -> int:
    """Return an unused port of this machine."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
        return port
