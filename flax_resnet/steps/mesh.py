"""The device mesh and its shardings: batches are split over devices, state is replicated."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flax_resnet.errors import InputError


def data_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """Return a mesh with a single axis, `data`, over all devices of all processes."""
    return Mesh(np.asarray(devices or jax.devices()), ("data",))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of state: a full copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a batch: its first axis split evenly over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def device_rows(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a loader's batch without `skipped`, which only the host needs."""
    return {key: value for key, value in batch.items() if key != "skipped"}


def put_batch(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """Send this process's rows of a batch to its devices, without waiting for the transfer.

    Arrays that are on the devices already stay as they are.
    """
    sharding = split(mesh)
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    return {
        key: rows
        if isinstance(rows, jax.Array)
        else jax.make_array_from_process_local_data(sharding, rows)
        for key, rows in batch.items()
    }


def put_copies(arrays: Any, mesh: Mesh) -> Any:
    """Copy arrays, which are the same in every process, to every device."""
    sharding = replicated(mesh)
    if jax.process_count() == 1:
        return jax.device_put(arrays, sharding)
    return jax.tree.map(
        lambda array: jax.make_array_from_process_local_data(sharding, array, array.shape), arrays
    )


def check_batch_size(batch_size: int, mesh: Mesh) -> None:
    """Raise `InputError` unless the global batch splits evenly over the devices."""
    if batch_size % mesh.size:
        raise InputError(
            f"config.data.batch_size is {batch_size}, which does not split evenly over "
            f"{mesh.size} devices: set it to a multiple of {mesh.size}"
        )


def compiler_options(mesh: Mesh, deterministic: bool) -> dict[str, bool] | None:
    """Return the options of `jax.jit` that make a compiled function reproducible bit for bit.

    Only GPUs need options: there XLA picks the fastest kernel by timing, which may be a different
    one in each run, and some kernels add in the order in which threads arrive.
    `xla_gpu_deterministic_ops` prevents both, at a cost in speed: kernels are not chosen by timing,
    and scatters become sorted sums. Every operation of a step has a deterministic form, since max
    pooling has its own gradient (XLA's has none, and does not compile).

    Bit-identical results also need the same jax version, driver, and kind and number of devices.
    """
    on_gpu = mesh.devices.flat[0].platform == "gpu"
    return {"xla_gpu_deterministic_ops": True} if deterministic and on_gpu else None
