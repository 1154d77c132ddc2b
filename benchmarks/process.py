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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.case import Case
from benchmarks.environment import ROOT

# Of a part's time, for what follows its last repeat.
TAIL_S = 10.0
LOG_LINES = 30
_ERROR = re.compile(r"\w[\w.]*(Error|Exception|Interrupt)\b")


def missing_modules(names: Sequence[str]) -> list[str]:
    """Return those of the modules that are not installed, without importing any."""
    return [name for name in names if importlib.util.find_spec(name) is None]


def run_part(module: str, case: Case, limit_s: float) -> dict[str, Any]:
    """Run `python -m module` on a case; return its outcome, or how it failed, with a `status`.

    Whatever the process started ends with it, at `limit_s` seconds at the latest.
    """
    case = dataclasses.replace(case, limit_s=limit_s - TAIL_S)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = folder / "log"
        code = _run(module, case, limit_s, folder, log)
        if code == 0:
            return {"status": "done", **json.loads((folder / "outcome").read_text())}
        lines = log.read_text(errors="replace").strip().splitlines()
        reason = f"stopped after {limit_s:.0f} s" if code is None else _reason(lines, code)
        return {"status": "failed", "reason": reason, "log": lines[-LOG_LINES:]}


def _run(module: str, case: Case, limit_s: float, folder: Path, log: Path) -> int | None:
    """Return the exit status, or None where the time was up."""
    arguments = [json.dumps(dataclasses.asdict(case)), str(folder / "outcome")]
    with log.open("w") as stream:
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=_variables(case.platform, folder),
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


def _variables(platform: str, folder: Path) -> dict[str, str]:
    """Return the environment of a part, whose compilers start cold, as on a first day."""
    variables = dict(os.environ)
    variables["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        variables[name] = str(folder / name.lower())
    if platform == "cpu":
        variables["JAX_PLATFORMS"] = "cpu"
    return variables


def _reason(lines: list[str], code: int) -> str:
    """Return the line that names the error, which need not be the last one."""
    named = [line for line in lines if _ERROR.match(line)]
    ended = f"ended by signal {-code}" if code < 0 else f"ended with status {code}"
    return (named or lines or [ended])[-1][:300]
