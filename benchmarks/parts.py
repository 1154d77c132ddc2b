"""Run one part of a benchmark, ours or a peer's, in its own process and within a time limit."""

import argparse
import contextlib
import dataclasses
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.case import Case
from benchmarks.measuring import ROOT

# Seconds of a part's limit reserved for what follows its last repeat.
TAIL_S = 10.0
LOG_LINES = 30
_ERROR = re.compile(r"\w[\w.]*(Error|Exception|Interrupt)\b")


def missing_modules(names: Sequence[str], python: str = sys.executable) -> list[str]:
    """Return the modules that an interpreter lacks, without importing any.

    Raises:
      SystemExit: the interpreter cannot be started.
    """
    if python == sys.executable:
        return [name for name in names if importlib.util.find_spec(name) is None]
    program = "import importlib.util, sys; print(*filter(lambda name: importlib.util.find_spec("
    command = [python, "-c", program + "name) is None, sys.argv[1:]))", *names]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{python} is not a Python interpreter: {error}") from error


def run_part(
    module: str, case: Case, limit_s: float, python: str = sys.executable
) -> dict[str, Any]:
    """Run `python -m module` on a case; return its `status` and its outcome or reason of failure.

    All processes that it started end with it, after `limit_s` seconds at the latest. `started_at`
    is a value of `time.monotonic()`.
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
    """Return the exit status, or None after a timeout."""
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
            # The child has its own session, in which torch.compile leaves helper processes behind.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


# What `flax_resnet.allocator.keep_freed_memory` sets, for both frameworks.
KEEP_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**62),
    "MALLOC_ARENA_MAX": "1",
}

# What libtpu needs on a machine without a TPU; several processes may load it at once.
WITHOUT_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}


def _variables(case: Case, folder: Path) -> dict[str, str]:
    """Return the environment of a part; without a cache its compilers start cold."""
    variables = dict(os.environ)
    variables["JAX_ENABLE_COMPILATION_CACHE"] = "true" if case.cache else "false"
    if case.cache:
        variables["JAX_COMPILATION_CACHE_DIR"] = str(Path(case.cache) / "jax")
        variables["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        variables[name] = str(Path(case.cache or folder) / name.lower())
    if case.target:
        variables |= WITHOUT_TPU
    if case.platform == "cpu":
        variables["JAX_PLATFORMS"] = "cpu"
        variables["FLAX_RESNET_CPU_KERNELS"] = case.cpu_kernels
        if not case.default_malloc:
            variables |= KEEP_MEMORY
    return variables


def _reason(lines: list[str], code: int) -> str:
    """Return the line that names the error, which need not be the last one."""
    named = [line for line in lines if _ERROR.match(line)]
    ended = f"ended by signal {-code}" if code < 0 else f"ended with status {code}"
    return (named or lines or [ended])[-1][:300]


# FRAMEWORK-MODE-PHASE, with the mode jit left out: the phase and the mode.
PARTS = {
    "jax-train": ("train", "jit"),
    "jax-inference": ("inference", "jit"),
    "jax-folded-inference": ("inference", "folded"),
    "jax-memory": ("memory", "jit"),
    "jax-ceilings": ("ceilings", "jit"),
    "torch-eager-train": ("train", "eager"),
    "torch-eager-inference": ("inference", "eager"),
    "torch-eager-memory": ("memory", "eager"),
    "torch-compile-train": ("train", "compile"),
    "torch-compile-inference": ("inference", "compile"),
    "torch-frozen-inference": ("inference", "frozen"),
}
MODULES = {"jax": ("jax", "flax", "optax", "jaxtyping"), "torch": ("torch", "timm")}
# Seconds below which there is no time to start a framework, compile and measure.
FEWEST_S = {"gpu": 40.0, "cpu": 10.0}
# So that a part that hangs does not use up the time of those that follow.
PART_LIMIT_S = {"gpu": 230.0, "cpu": 600.0}


def run_turn(name: str, case: Case, left: float, peer_python: str = sys.executable) -> Any:
    """Run a part in its own process and return its outcome, or the reason why it was skipped.

    Args:
      left: seconds left in the budget.
      peer_python: the interpreter that has torch and timm, if it is another one.
    """
    framework, (phase, mode) = name.partition("-")[0], PARTS[name]
    python = peer_python if framework == "torch" else sys.executable
    missing = missing_modules(MODULES[framework], python)
    if missing:
        # Our own numbers are useful without the peer's, but not the other way round.
        status = "failed" if framework == "jax" else "skipped"
        return {"status": status, "reason": f"not installed: {', '.join(missing)}"}
    if mode in ("compile", "frozen") and case.platform == "cpu" and not _has_compiler():
        return {"status": "skipped", "reason": "no C++ compiler, which torch.compile needs"}
    if left < FEWEST_S[case.platform]:
        return {"status": "skipped", "reason": f"{max(left, 0):.0f} s of the budget were left"}
    case = dataclasses.replace(case, phase=phase, mode=mode)
    limit_s = min(left, PART_LIMIT_S[case.platform])
    return run_part(f"benchmarks.peers.{framework}_side", case, limit_s, python)


def said(outcome: dict[str, Any]) -> str:
    """Return a short description of an outcome."""
    if outcome["status"] != "done":
        return f"{outcome['status']}: {outcome['reason']}"
    if "repeats" not in outcome:
        return "done"
    steps = sum(repeat["steps"] for repeat in outcome["repeats"])
    seconds = sum(repeat["seconds"] for repeat in outcome["repeats"])
    return f"{1000 * seconds / steps:,.1f} ms a step, first {outcome['first_step_s']:.1f} s"


def case_settings(case: Case) -> dict[str, Any]:
    """Return the settings of a case that all parts of a run share."""
    chosen = dataclasses.asdict(case)
    for name in ("phase", "mode", "limit_s", "dump", "cache"):
        del chosen[name]
    return chosen


def device_name(platform: str, environment: dict[str, Any]) -> str:
    """Return the name of the measured device: the GPU's name, or the number of cores."""
    if platform == "gpu":
        return environment["gpus"][0]["name"] if environment["gpus"] else "unknown"
    return f"{environment['cores']} cores"


def add_case_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a case: its sizes, and how long it is timed."""
    add_size_options(parser)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--cpu-kernels", help="our convolutions: auto, xla or onednn")
    parser.add_argument(
        "--default-malloc", action="store_true", help="let the C library return freed memory"
    )
    for name in ("repeat-s", "warm-up-s"):
        parser.add_argument(f"--{name}", type=float, help="seconds")


def add_size_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for dtype and image size."""
    parser.add_argument("--dtype")
    parser.add_argument("--image-size", type=int)


def add_peer_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for the interpreter that has torch and timm."""
    parser.add_argument(
        "--peer-python",
        default=os.environ.get("PEER_PYTHON", sys.executable),
        help="the interpreter that has torch and timm; default: $PEER_PYTHON, or this one",
    )


def _has_compiler() -> bool:
    names = (os.environ.get("CXX"), "g++", "clang++", "c++")
    return any(name and shutil.which(name) for name in names)
