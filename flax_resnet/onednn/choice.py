"""Which kernels compute convolutions on CPUs: those of XLA, or those of oneDNN."""

import functools
import importlib
import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import jax
from jax.sharding import Mesh

from flax_resnet.errors import InputError, install_extra, require_known
from flax_resnet.onednn.c_api import engine

AUTO, XLA, ONEDNN = "auto", "xla", "onednn"
KERNELS = (AUTO, XLA, ONEDNN)
VARIABLE = "FLAX_RESNET_CPU_KERNELS"
# What convolutions that are traced within `with cpu_kernels(...)` use; jax traces again if it
# changes. `None` is the default: `choose_kernels` decides for steps and predictors, and a network
# that is applied on its own uses XLA's.
cpu_kernels = jax.make_user_context(None)


def choose_kernels(mesh: Mesh, setting: str = AUTO) -> str:
    """Return `xla` or `onednn`.

    Args:
      setting: one of `KERNELS`. With `auto`, the surrounding `with cpu_kernels(...)` decides, then
        the environment variable FLAX_RESNET_CPU_KERNELS; otherwise oneDNN computes if it can.

    Raises:
      InputError: the setting is unknown, or asks for oneDNN where it cannot compute.
    """
    require_known("config.cpu_kernels", setting, KERNELS)
    if setting == AUTO:
        setting = cpu_kernels.value or os.environ.get(VARIABLE, AUTO)
        require_known(VARIABLE, setting, KERNELS)
    if setting == XLA:
        return XLA
    reason = _why_not(mesh)
    if reason and setting == ONEDNN:
        raise InputError(f"oneDNN cannot compute convolutions here: {reason}")
    return XLA if reason else ONEDNN


def for_inference(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with fused convolutions where oneDNN computes them; see `fusing.fuse`."""

    def traced(*arguments: Any) -> Any:
        if cpu_kernels.value != ONEDNN:
            return function(*arguments)
        # Loaded only here, because its packages are optional.
        fusing = importlib.import_module("flax_resnet.onednn.fusing")
        return fusing.fuse(function)(*arguments)

    return traced


def _why_not(mesh: Mesh) -> str | None:
    platform = mesh.devices.flat[0].platform
    if platform != "cpu":
        return f"the devices are of the platform {platform}, not cpu"
    if mesh.size > 1:
        return f"the mesh has {mesh.size} devices, and its calls cannot be split over them"
    return why_unavailable()


@functools.cache
def why_unavailable() -> str | None:
    """Return why oneDNN cannot be used in this process, or None if it can."""
    advice = install_extra("onednn")
    if find_spec("llvmlite") is None:
        return f"llvmlite is not installed ({advice})"
    try:
        engine()
    except (OSError, NotImplementedError) as error:
        return f"{error} ({advice})"
    return None
