"""Print what this installation has and what is wrong with it: `python -m flax_resnet doctor`."""

import argparse
import importlib.metadata
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import jax
from huggingface_hub.constants import HF_HUB_CACHE
from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flax_resnet.commands.reporting import Done
from flax_resnet.data.batches.workers import available_cores
from flax_resnet.errors import install_extra
from flax_resnet.onednn.c_api import version
from flax_resnet.onednn.choice import why_unavailable
from flax_resnet.version import VERSION

EXAMPLE = "doctor"
_DISTRIBUTION = "flax-resnet"
# A run of ResNet-50 keeps two checkpoints of 200 MB and writes a third before it deletes one.
_LEAST_DISK = 2**30
_GIB = 2**30

Facts = dict[str, str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare nothing: the command takes no arguments."""


def run(args: argparse.Namespace) -> Done:
    """Print what was found; the status is 1 if something is wrong, otherwise 0."""
    facts = {"versions": versions(), "devices": devices(), "machine": machine(), "data": data()}
    problems = [*unmet_requirements(), *wrong_with_devices(), *wrong_with_folders()]
    table = Table(show_header=False)
    for room, found in facts.items():
        table.add_section()
        for at, (name, value) in enumerate(found.items()):
            table.add_row(room if at == 0 else "", name, Text(value))
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(table)
    for problem in problems:
        console.print(f"wrong: {problem}")
    console.print(f"{len(problems)} things are wrong" if problems else "nothing is wrong")
    return Done({**facts, "problems": problems}, bool(problems))


def versions() -> Facts:
    """Return the versions of Python, flax_resnet and the packages that it requires."""
    names = sorted({each.name for each in _requirements()})
    found = {name: _version(name) or "missing" for name in names}
    return {"python": platform.python_version(), "flax_resnet": VERSION, **found}


def devices() -> Facts:
    """Return the devices that JAX uses."""
    return {
        f"{device.platform}:{device.id}": f"{device.device_kind}{_device_memory(device)}"
        for device in jax.local_devices()
    }


def machine() -> Facts:
    """Return the cores, memory and free disk space of this machine."""
    facts = {"system": platform.platform(), "cores": str(available_cores())}
    if hasattr(os, "sysconf"):
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        facts["memory"] = f"{pages / _GIB:.1f} GiB"
    reason = why_unavailable()
    facts["convolutions on CPUs"] = f"XLA's: {reason}" if reason else f"oneDNN {version()}"
    facts["free on disk here"] = f"{shutil.disk_usage(Path.cwd()).free / _GIB:.1f} GiB"
    return facts


def data() -> Facts:
    """Return the folders of data sets and of weights, and whether they exist."""
    return {
        name: f"{folder} ({'exists' if folder.is_dir() else 'does not exist yet'})"
        for name, folder in _folders().items()
    }


def unmet_requirements() -> list[str]:
    """Return a sentence for each required package that is missing or has a wrong version."""
    problems = []
    for requirement in _requirements():
        version = _version(requirement.name)
        if version is None:
            problems.append(f"{requirement.name} is missing: pip install '{requirement}'")
        elif not requirement.specifier.contains(version, prereleases=True):
            problems.append(
                f"{requirement.name} is {version}; expected {requirement.specifier}: "
                f"pip install '{requirement}'"
            )
    return problems


def wrong_with_devices() -> list[str]:
    """Return why JAX does not use this machine's accelerators."""
    on_cpu = jax.local_devices()[0].platform == "cpu"
    if on_cpu and Path("/dev/nvidia0").exists():
        return [f"this machine has a GPU that JAX does not see: {install_extra('cuda')}"]
    return []


def wrong_with_folders() -> list[str]:
    """Return which folders cannot be used."""
    problems = []
    chosen = os.environ.get("TFDS_DATA_DIR")
    if chosen and not Path(chosen).expanduser().is_dir():
        problems.append(
            f"TFDS_DATA_DIR is {chosen}, which is not a folder: create it, or unset the variable"
        )
    if not os.access(Path.cwd(), os.W_OK):
        problems.append(f"{Path.cwd()} cannot be written to, so runs need another --workdir")
    free = shutil.disk_usage(Path.cwd()).free
    if free < _LEAST_DISK:
        problems.append(
            f"{free / _GIB:.2f} GiB are free on this disk; the checkpoints of a run may need 1 GiB"
        )
    return problems


def _folders() -> dict[str, Path]:
    tfds = Path(os.environ.get("TFDS_DATA_DIR", "~/tensorflow_datasets"))
    return {"TFDS": tfds.expanduser(), "published weights": Path(HF_HUB_CACHE)}


def _requirements() -> list[Requirement]:
    """Return the requirements of the installed package; [] if it is not installed."""
    try:
        lines = importlib.metadata.requires(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        return []
    every = [Requirement(line) for line in lines]
    return [each for each in every if each.marker is None or each.marker.evaluate({"extra": ""})]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _device_memory(device: Any) -> str:
    stats = device.memory_stats() or {}
    limit = stats.get("bytes_limit")
    return f", {limit / _GIB:.0f} GiB" if limit else ""
