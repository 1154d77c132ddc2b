"""The jitted steps: one update, and one batch of evaluation."""

from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from flax_resnet.training.determinism import compiler_options
from flax_resnet.training.mesh import replicated, split
from flax_resnet.training.state import TrainState
from flax_resnet.training.tasks.table import CLASSIFICATION, Batch, Loss, Metrics, Task
from flax_resnet.training.updates.guard import NONE, current_scale, judge

Gradient = Callable[..., tuple[Any, tuple[jax.Array, jax.Array, Any]]]


def normalize(
    images: UInt8[Array, "n h w c"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, "n h w c"]:
    """Scale pixels from 0..255 to 0..1, subtract the channels' means, divide by their spread."""
    scale = 1 / (255 * jnp.asarray(std, jnp.float32))
    shift = jnp.asarray(mean, jnp.float32) / jnp.asarray(std, jnp.float32)
    return images * scale[None, None, None] - shift[None, None, None]


def dropout_key(seed: int, step: jax.Array | int) -> jax.Array:
    """Return the key of what the model drops at random in the update after `step` batches."""
    return jax.random.fold_in(jax.random.key(seed), step)


def make_gradient(
    model: nn.Module, loss: Loss, *, mean: tuple[float, ...], std: tuple[float, ...]
) -> Gradient:
    """Return `(variables, batch, key, scale) -> (gradient, (loss, accuracy, batch_stats))`.

    With a `scale` the gradient is that of the loss times `scale`, divided by it: what lies between
    may then be too small for the compute dtype otherwise.
    """

    def loss_fn(
        params: Any, batch_stats: Any, batch: Batch, key: jax.Array, scale: jax.Array | None
    ) -> tuple[jax.Array, Any]:
        logits, updates = model.apply(
            {"params": params, "batch_stats": batch_stats},
            normalize(batch["image"], mean, std),
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        value, accuracy = loss(logits, batch)
        scaled = value if scale is None else value * scale
        return scaled, (value, accuracy, updates.get("batch_stats", {}))

    def gradient(
        variables: dict[str, Any], batch: Batch, key: jax.Array, scale: jax.Array | None = None
    ) -> tuple[Any, tuple[jax.Array, jax.Array, Any]]:
        grad_fn = jax.grad(loss_fn, has_aux=True)
        grads, outcome = grad_fn(variables["params"], variables["batch_stats"], batch, key, scale)
        if scale is not None:
            grads = jax.tree.map(lambda leaf: leaf / scale, grads)
        return grads, outcome

    return gradient


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
    max_nonfinite: int | None = None,
    loss_scale: str = NONE,
    deterministic: bool = False,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Return the jitted update `(state, batch) -> (state, metrics)`; it takes the state over.

    What the model drops at random depends on `seed` and the step alone.

    The batch has `image` (uint8, NHWC) and what `loss` takes. Metrics are float32 scalars on the
    device: loss, accuracy, learning_rate, the global norms of gradients and parameters,
    `nonfinite` (bad updates in a row), `skipped_updates` (left out so far) and, if any, loss_scale.

    Args:
      loss: `(logits, batch) -> (loss, accuracy)`.
      max_nonfinite, loss_scale: see `judge` and `TrainConfig`.
      deterministic: see `compiler_options`.
    """
    gradient = make_gradient(model, loss, mean=mean, std=std)

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        guard, scale = state.guard, current_scale(state.guard, loss_scale)
        key = dropout_key(seed, state.step)
        grads, (value, accuracy, stats) = gradient(state.variables, batch, key, scale)
        norm = optax.tree.norm(grads)
        applies, after = judge(guard, value, norm, max_nonfinite, loss_scale)
        variables, memory = update(state, grads, stats, optimizer, applies, mesh)
        metrics = {
            "loss": value,
            "accuracy": accuracy,
            # The optimiser counts the updates that happened.
            "learning_rate": rate(state.step - guard.skipped),
            "gradient_norm": norm,
            "parameter_norm": optax.tree.norm(variables["params"]),
            "nonfinite": after.streak,
            "skipped_updates": after.skipped,
            **({} if scale is None else {"loss_scale": scale}),
        }
        metrics = jax.tree.map(lambda number: jnp.asarray(number, jnp.float32), metrics)
        return TrainState(state.step + 1, variables, memory, after), metrics | _votes(batch)

    return jit_over(mesh, step, deterministic, donate_argnums=0)


def update(
    state: TrainState,
    grads: Any,
    batch_stats: Any,
    optimizer: optax.GradientTransformation,
    applies: jax.Array,
    mesh: Mesh,
) -> tuple[dict[str, Any], Any]:
    """Return variables and the optimiser's memory: of after the update if it applies."""
    params = state.variables["params"]
    updates, memory = optimizer.update(grads, state.optimizer, params)
    variables = {"params": optax.apply_updates(params, updates), "batch_stats": batch_stats}
    new, old = (variables, memory), (state.variables, state.optimizer)
    if mesh.devices.flat[0].platform == "cpu":
        # A select would part what XLA:CPU fuses for the update: slower, and rounded otherwise.
        return jax.lax.cond(applies, lambda new, old: new, lambda new, old: old, new, old)
    # A GPU's host would wait for the condition.
    return jax.tree.map(lambda after, before: jnp.where(applies, after, before), new, old)


def jit_over(mesh: Mesh, function: Any, deterministic: bool = False, **options: Any) -> Any:
    """Jit a function of state and batch: one on every device, the other split between them."""
    whole, rows = replicated(mesh), split(mesh)
    return jax.jit(
        function,
        in_shardings=(whole, rows),
        out_shardings=whole,
        compiler_options=compiler_options(mesh, deterministic),
        **options,
    )


def make_eval_step(
    model: nn.Module,
    mesh: Mesh,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    task: Task = CLASSIFICATION,
    deterministic: bool = False,
) -> Callable[[dict[str, Any], Batch], Metrics]:
    """Return the jitted `(variables, batch) -> sums` over the examples that `mask` marks.

    The sums are those of the task; `count` is of examples.
    """

    def step(variables: dict[str, Any], batch: Batch) -> Metrics:
        images = normalize(batch["image"], mean, std)
        logits = cast(jax.Array, model.apply(variables, images, train=False))
        return task.sums(logits, batch) | _votes(batch)

    return jit_over(mesh, step, deterministic)


def _votes(batch: Batch) -> Metrics:
    """Join what the processes voted for, where they vote: whether to stop."""
    return {"stop": batch["stop"].any()} if "stop" in batch else {}
