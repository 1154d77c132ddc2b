"""Accelerators that programs are compiled for without having one, and what they offer at most.

XLA compiles for a device that it is told about. The plug-ins of jax contain the compilers, so they
must be installed: `pip install '.[aot-gpu]'` or `'.[aot-tpu]'`. No driver and no device is needed.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh

from flax_resnet.errors import InputError, require_known

H100 = Path(__file__).with_name("h100.txtpb")
# The module and the extra that contain the compiler of a platform.
COMPILERS = {"cuda": ("jax_plugins.xla_cuda13", "aot-gpu"), "tpu": ("libtpu", "aot-tpu")}


@dataclass(frozen=True)
class Target:
    """A device, with the published figures of its maker.

    Attributes:
      platform: cuda or tpu.
      bytes_per_s: of its main memory.
      flops_per_s: of matrix products, by dtype; of dense ones on a GPU.
      memory: bytes.
      axes: how many axes the network of chips has.
    """

    platform: str
    bytes_per_s: float
    flops_per_s: dict[str, float]
    memory: float
    axes: int = 0


TARGETS = {
    # float32 convolutions use TensorFloat-32 on these.
    "h100": Target("cuda", 3.35e12, {"bfloat16": 989e12, "float32": 494e12}, 85e9),
    "h200": Target("cuda", 4.8e12, {"bfloat16": 989e12, "float32": 494e12}, 141e9),
    # float32 products take several passes of bfloat16 on these, unless the precision is lowered.
    "v5e": Target("tpu", 0.819e12, {"bfloat16": 197e12}, 16e9, 2),
    "v5p": Target("tpu", 2.765e12, {"bfloat16": 459e12}, 95e9, 3),
    "v6e": Target("tpu", 1.64e12, {"bfloat16": 918e12}, 32e9, 2),
}


def check_installed(name: str) -> None:
    """Raise `InputError` unless the compiler of a target is installed.

    Raises:
      InputError: the target is unknown, or its compiler is not installed.
    """
    require_known("--target", name, TARGETS)
    module, extra = COMPILERS[TARGETS[name].platform]
    if not is_installed(module):
        raise InputError(
            f"no compiler for {name} is installed: pip install '.[{extra}]' (no device is needed)"
        )


def is_installed(module: str) -> bool:
    """Return whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that contains it is missing
        return False


def target_mesh(name: str, count: int) -> Mesh:
    """Return a mesh with an axis `data` over `count` devices of a kind, none of which exists.

    Raises:
      InputError: the target is unknown or not installed, or has no such number of devices.
    """
    check_installed(name)
    target = TARGETS[name]
    if target.platform == "cuda":
        # What differs between the two, the memory, does not affect the program.
        options: dict[str, Any] = dict(target_config=H100.read_text(), topology=f"1x1x{count}")
        described = topologies.get_topology_desc(platform="cuda", **options)
    else:
        sides = "x".join(map(str, chips(count, target.axes)))
        described = topologies.get_topology_desc(platform="tpu", topology_name=f"{name}:{sides}")
    # Less than four chips are not a topology, but a program may use fewer.
    return Mesh(np.asarray(described.devices[:count]), ("data",))


def chips(count: int, axes: int) -> tuple[int, ...]:
    """Return the sides of the smallest grid of chips that has at least `count`.

    Raises:
      InputError: the number is above 4 and not a power of two.
    """
    if count & (count - 1):
        raise InputError(f"--devices is {count}; expected a power of two")
    sides = [2, 2] + [1] * (axes - 2)
    while np.prod(sides) < count:
        sides[sides.index(min(sides))] *= 2
    return tuple(sorted(sides, reverse=axes == 3))


def bound(name: str, moved: float, flops: float, dtype: str) -> dict[str, float | None]:
    """Return the least seconds that a program needs for its bytes and for its products.

    It is a bound and not a speed: no kernel reaches both figures of the maker.
    """
    target = TARGETS[name]
    peak = target.flops_per_s.get(dtype)
    return {
        "memory_s": moved / target.bytes_per_s,
        "products_s": flops / peak if peak else None,
    }


def device_kind(mesh: Mesh) -> str:
    """Return what the maker calls the devices of a mesh."""
    device: jax.Device = mesh.devices.flat[0]
    return device.device_kind
