"""Run one part of a benchmark in a process of its own, within its time, and take its outcome."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.case import Case
from benchmarks.environment import ROOT

# Of a part's time, for what follows its last repeat.
TAIL_S = 10.0
LOG_LINES = 30
_ERROR = re.compile(r"\w[\w.]*(Error|Exception|Interrupt)\b")


def missing_modules(names: Sequence[str], python: str = sys.executable) -> list[str]:
    """Return those of the modules that an interpreter lacks, without importing any.

    Raises:
      SystemExit: there is no such interpreter.
    """
    if python == sys.executable:
        return [name for name in names if importlib.util.find_spec(name) is None]
    program = "import importlib.util, sys; print(*filter(lambda name: importlib.util.find_spec("
    command = [python, "-c", program + "name) is None, sys.argv[1:]))", *names]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{python} is no Python interpreter: {error}") from error


def run_part(
    module: str, case: Case, limit_s: float, python: str = sys.executable
) -> dict[str, Any]:
    """Run `python -m module` on a case; return its outcome, or how it failed, with a `status`.

    Whatever the process started ends with it, at `limit_s` seconds at the latest. `started_at` is
    of the clock `time.monotonic`.
    """
    case = dataclasses.replace(case, limit_s=limit_s - TAIL_S)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "log"
        began = time.monotonic()
        code = _run([python, "-m", module], case, limit_s, folder, log)
        if code == 0:
            outcome = json.loads((folder / "outcome").read_text())
            return {"status": "done", "started_at": began, **outcome}
        lines = log.read_text(errors="replace").strip().splitlines()
        reason = f"stopped after {limit_s:.0f} s" if code is None else _reason(lines, code)
        return {"status": "failed", "reason": reason, "log": lines[-LOG_LINES:]}


def _run(command: list[str], case: Case, limit_s: float, folder: Path, log: Path) -> int | None:
    """Return the exit status, or None where the time was up."""
    arguments = [json.dumps(dataclasses.asdict(case)), str(folder / "outcome")]
    with log.open("w") as stream:
        child = subprocess.Popen(
            [*command, *arguments],
            cwd=ROOT,
            env=_variables(case, folder),
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
        try:
            return child.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            # The session is the child's own: torch.compile leaves helpers behind in it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _variables(case: Case, folder: Path) -> dict[str, str]:
    """Return the environment of a part; without a cache its compilers start as on a first day."""
    variables = dict(os.environ)
    variables["JAX_ENABLE_COMPILATION_CACHE"] = "true" if case.cache else "false"
    if case.cache:
        variables["JAX_COMPILATION_CACHE_DIR"] = str(Path(case.cache) / "jax")
        variables["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        variables[name] = str(Path(case.cache or folder) / name.lower())
    if case.platform == "cpu":
        variables["JAX_PLATFORMS"] = "cpu"
    return variables


def _reason(lines: list[str], code: int) -> str:
    """Return the line that names the error, which need not be the last one."""
    named = [line for line in lines if _ERROR.match(line)]
    ended = f"ended by signal {-code}" if code < 0 else f"ended with status {code}"
    return (named or lines or [ended])[-1][:300]
