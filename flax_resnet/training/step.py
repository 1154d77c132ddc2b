"""The jitted steps: one update, and one batch of evaluation."""

from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from flax_resnet.training.mesh import replicated, split
from flax_resnet.training.state import TrainState
from flax_resnet.training.tasks import CLASSIFICATION, Batch, Loss, Metrics, Task


def normalize(
    images: UInt8[Array, "n h w c"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, "n h w c"]:
    """Scale pixels from 0..255 to 0..1, subtract the channels' means, divide by their spread."""
    scale = 1 / (255 * jnp.asarray(std, jnp.float32))
    shift = jnp.asarray(mean, jnp.float32) / jnp.asarray(std, jnp.float32)
    return images * scale[None, None, None] - shift[None, None, None]


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    rate: optax.Schedule,
    mesh: Mesh,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    loss: Loss = CLASSIFICATION.loss,
    seed: int = 0,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Return the jitted update `(state, batch) -> (state, metrics)`; it takes the state over.

    What the model drops at random depends on `seed` and the step alone.

    The batch has `image` (uint8, NHWC) and what `loss` takes. Metrics are float32 scalars on the
    device: loss, accuracy, learning_rate, and the global norms of gradients and parameters.

    Args:
      loss: `(logits, batch) -> (loss, accuracy)`.
    """

    def loss_fn(
        params: Any, batch_stats: Any, batch: Batch, key: jax.Array
    ) -> tuple[jax.Array, Any]:
        logits, updates = model.apply(
            {"params": params, "batch_stats": batch_stats},
            normalize(batch["image"], mean, std),
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        value, accuracy = loss(logits, batch)
        return value, (accuracy, updates.get("batch_stats", {}))

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        params = state.variables["params"]
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        grad_fn = jax.value_and_grad(loss_fn, has_aux=True)
        outcome, grads = grad_fn(params, state.variables["batch_stats"], batch, key)
        value, (accuracy, stats) = outcome
        updates, memory = optimizer.update(grads, state.optimizer, params)
        params = optax.apply_updates(params, updates)
        metrics = {
            "loss": value,
            "accuracy": accuracy,
            "learning_rate": jnp.asarray(rate(state.step), jnp.float32),
            "gradient_norm": optax.tree.norm(grads),
            "parameter_norm": optax.tree.norm(params),
        }
        variables = {"params": params, "batch_stats": stats}
        return TrainState(state.step + 1, variables, memory), metrics

    whole, rows = replicated(mesh), split(mesh)
    return jax.jit(step, donate_argnums=0, in_shardings=(whole, rows), out_shardings=whole)


def make_eval_step(
    model: nn.Module,
    mesh: Mesh,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    task: Task = CLASSIFICATION,
) -> Callable[[dict[str, Any], Batch], Metrics]:
    """Return the jitted `(variables, batch) -> sums` over the examples that `mask` marks.

    The sums are those of the task; `count` is of examples.
    """

    def step(variables: dict[str, Any], batch: Batch) -> Metrics:
        images = normalize(batch["image"], mean, std)
        logits = cast(jax.Array, model.apply(variables, images, train=False))
        return task.sums(logits, batch)

    whole, rows = replicated(mesh), split(mesh)
    return jax.jit(step, in_shardings=(whole, rows), out_shardings=whole)
