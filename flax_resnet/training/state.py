"""What training changes: parameters, batch statistics, the optimiser's memory, the step."""

from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from flax_resnet.training.mesh import replicated


class TrainState(flax.struct.PyTreeNode):
    """The state of a run; a pytree, donated to every step.

    Attributes:
      step: number of updates so far, as an int32 scalar.
      variables: `{"params": ..., "batch_stats": ...}`, the second empty without batch norm.
      optimizer: the state of the optax transformation.
    """

    step: jax.Array
    variables: dict[str, Any]
    optimizer: Any


def init_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    seed: int,
    image_shape: tuple[int, int, int],
    mesh: Mesh,
) -> TrainState:
    """Make the first state from `seed`, a copy on every device of `mesh`.

    Args:
      image_shape: height, width and channels.
    """

    def make(key: jax.Array) -> TrainState:
        images = jnp.zeros((1, *image_shape), jnp.float32)
        variables: dict[str, Any] = {"batch_stats": {}} | dict(model.init(key, images))
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            variables=variables,
            optimizer=optimizer.init(variables["params"]),
        )

    # XLA:CPU takes long to optimise the random number generator, once for every shape of kernel:
    # ResNet-50 starts in 8 instead of 45 seconds without.
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    options = {"xla_backend_optimization_level": 0} if on_cpu else None
    start = jax.jit(make, out_shardings=replicated(mesh), compiler_options=options)
    return start(jax.random.key(seed))
