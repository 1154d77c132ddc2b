"""The same numbers from the same run, on devices whose fastest kernels do not promise them."""

from jax.sharding import Mesh


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
