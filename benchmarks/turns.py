"""The turns of ours and of the peers: which process runs a part, and for how long it may."""

import argparse
import dataclasses
import os
import shutil
import sys
from typing import Any

from benchmarks.case import Case
from benchmarks.process import missing_modules, run_part

# FRAMEWORK-MODE-PHASE, where jit is not told: the phase and the mode.
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
# Less than this is not enough to start a framework, compile and measure.
FEWEST_S = {"gpu": 40.0, "cpu": 10.0}
# A part that hangs does not take the time of all that follow.
PART_LIMIT_S = {"gpu": 230.0, "cpu": 600.0}


def run_turn(name: str, case: Case, left: float, peer_python: str = sys.executable) -> Any:
    """Run a part in a process of its own and return its outcome, or say why it was not run.

    Args:
      left: what the budget still has, in seconds.
      peer_python: the interpreter that has torch and timm, where it is another one.
    """
    framework, (phase, mode) = name.partition("-")[0], PARTS[name]
    python = peer_python if framework == "torch" else sys.executable
    missing = missing_modules(MODULES[framework], python)
    if missing:
        # Without the peer there is still our own figure; without ours there is nothing.
        status = "failed" if framework == "jax" else "skipped"
        return {"status": status, "reason": f"not installed: {', '.join(missing)}"}
    if mode in ("compile", "frozen") and case.platform == "cpu" and not _has_compiler():
        return {"status": "skipped", "reason": "no C++ compiler, which torch.compile needs"}
    if left < FEWEST_S[case.platform]:
        return {"status": "skipped", "reason": f"{max(left, 0):.0f} s of the budget were left"}
    case = dataclasses.replace(case, phase=phase, mode=mode)
    limit_s = min(left, PART_LIMIT_S[case.platform])
    return run_part(f"benchmarks.{framework}_side", case, limit_s, python)


def said(outcome: dict[str, Any]) -> str:
    """Return an outcome in a few words."""
    if outcome["status"] != "done":
        return f"{outcome['status']}: {outcome['reason']}"
    if "repeats" not in outcome:
        return "done"
    steps = sum(repeat["steps"] for repeat in outcome["repeats"])
    seconds = sum(repeat["seconds"] for repeat in outcome["repeats"])
    return f"{1000 * seconds / steps:,.1f} ms a step, first {outcome['first_step_s']:.1f} s"


def case_settings(case: Case) -> dict[str, Any]:
    """Return what of a case is of the run, and not of one of its parts or of this machine."""
    chosen = dataclasses.asdict(case)
    for name in ("phase", "mode", "limit_s", "dump", "cache"):
        del chosen[name]
    return chosen


def device_name(platform: str, environment: dict[str, Any]) -> str:
    """Return what the figures are of: the GPU's name, or how many cores."""
    if platform == "gpu":
        return environment["gpus"][0]["name"] if environment["gpus"] else "unknown"
    return f"{environment['cores']} cores"


def add_case_options(parser: argparse.ArgumentParser) -> None:
    """Add what a case is made of, and how long it is watched."""
    add_size_options(parser)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--repeats", type=int)
    for name in ("repeat-s", "warm-up-s"):
        parser.add_argument(f"--{name}", type=float, help="seconds")


def add_size_options(parser: argparse.ArgumentParser) -> None:
    """Add what makes a network large, but for its batch."""
    parser.add_argument("--dtype")
    parser.add_argument("--image-size", type=int)


def add_peer_option(parser: argparse.ArgumentParser) -> None:
    """Add where torch and timm are."""
    parser.add_argument(
        "--peer-python",
        default=os.environ.get("PEER_PYTHON", sys.executable),
        help="the interpreter that has torch and timm; default: $PEER_PYTHON, or this one",
    )


def _has_compiler() -> bool:
    names = (os.environ.get("CXX"), "g++", "clang++", "c++")
    return any(name and shutil.which(name) for name in names)
