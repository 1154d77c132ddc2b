"""What a figure was measured with: hardware, versions, settings of the frameworks. No names."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "numpy", "torch", "torchvision", "timm")
# The plug-ins and libraries that decide about speed on a GPU; their names carry the CUDA version.
_GPU_PACKAGES = ("jax-cuda", "nvidia-cudnn", "nvidia-cublas", "nvidia-cuda-runtime", "triton")
_VARIABLES = ("XLA_FLAGS", "XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_PREALLOCATE")
_GPU_FIELDS = ("name", "driver_version", "memory.total", "power.limit", "clocks.max.sm")


def record_environment(note: str | None = None) -> dict[str, Any]:
    """Return JSON values that describe this machine without telling which one it is.

    Args:
      note: what a reader must know besides, such as that the cores were shared.
    """
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "note": note,
        "commit": _commit(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cores": usable_cores(),
        "load_average": round(os.getloadavg()[0], 2),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": _gpus(),
        "packages": _versions(),
        "variables": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def usable_cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def _versions() -> dict[str, str]:
    found = {}
    for distribution in importlib.metadata.distributions():
        name = str(distribution.metadata["Name"] or "").lower()
        if name in _PACKAGES or name.startswith(_GPU_PACKAGES):
            found[name] = distribution.version
    return dict(sorted(found.items()))


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _gpus() -> list[dict[str, str]]:
    command = ["nvidia-smi", f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader"]
    rows = _output(command).splitlines()
    values = ([value.strip() for value in row.split(",")] for row in rows)
    return [dict(zip(_GPU_FIELDS, row, strict=False)) for row in values]


def _commit() -> str | None:
    commit = _output(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]).strip()
    # benchmarks/results is left out: a result that was just written changes no figure.
    status = ["status", "--porcelain", "--", ".", ":!benchmarks/results"]
    changed = bool(commit) and bool(_output(["git", "-C", str(ROOT), *status]).strip())
    return f"{commit} with changes" if changed else commit or None


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
