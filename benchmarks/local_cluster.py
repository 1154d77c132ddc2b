"""The processes of one run, all on this machine."""

import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.run_process import RunProcess


def start_together(
    arguments: Sequence[str], logs: Path, variables: Sequence[Mapping[str, str]]
) -> list[RunProcess]:
    """Start a process of the run for each of the environments in `variables`.

    Args:
      logs: the path that their logs have in common; each adds its number.
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
    """Wait until all have ended, end those that do not, and return how they failed, if they did."""
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
    """Return a port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
        return port
