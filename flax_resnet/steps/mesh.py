"""Where arrays live: batches split over the devices, state copied to each."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flax_resnet.errors import InputError


def data_mesh(devices: list[jax.Device] | None = None) -> Mesh:
    """Return a mesh with the one axis `data` over all devices of all processes."""
    return Mesh(np.asarray(devices or jax.devices()), ("data",))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of state: a whole copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a batch: its first axis in equal parts over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def device_rows(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the device needs of a batch: all but the count of skipped records."""
    return {key: value for key, value in batch.items() if key != "skipped"}


def put_batch(batch: Mapping[str, Any], mesh: Mesh) -> dict[str, jax.Array]:
    """Send this process's rows of a batch to its devices, without waiting for the transfer.

    What is there already, as rows that a device took out of its own memory, stays as it is.
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
    """Send arrays, the same in every process, to every device."""
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
            f"config.data.batch_size is {batch_size}, which {mesh.size} devices cannot share "
            f"evenly: take a multiple of {mesh.size}"
        )


def compiler_options(mesh: Mesh, deterministic: bool) -> dict[str, bool] | None:
    """Return the options of `jax.jit` that make a compiled function repeat itself bit for bit.

    Only GPUs need some: there XLA times kernels and takes the fastest, another one in another run,
    and some of them add up in the order in which threads arrive. `xla_gpu_deterministic_ops`
    leaves both out. It costs speed: kernels are no longer chosen by time, scatters become sorted
    sums. Nothing in a step of these networks is without a deterministic form, for max pooling has
    its own gradient (XLA's had none, and failed to compile).

    The same jax, driver and kind of device are needed besides, and as many of them.
    """
    on_gpu = mesh.devices.flat[0].platform == "gpu"
    return {"xla_gpu_deterministic_ops": True} if deterministic and on_gpu else None
