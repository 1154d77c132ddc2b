"""The jitted steps: one update, and one batch of evaluation."""

from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from flax_resnet.steps.averages import Averaging
from flax_resnet.steps.gradient import dropout_key, make_gradient, normalize
from flax_resnet.steps.mesh import compiler_options, replicated, split
from flax_resnet.steps.mixing import MixConfig
from flax_resnet.steps.state import TrainState
from flax_resnet.steps.tasks.distillation import Teacher
from flax_resnet.steps.tasks.table import CLASSIFICATION, Batch, Loss, Metrics, Task
from flax_resnet.steps.updates.guard import NONE, current_scale, judge


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
    averaging: Averaging | None = None,
    mixing: MixConfig | None = None,
    accumulate: int = 1,
    teacher: Teacher | None = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Return the jitted update `(state, batch) -> (state, metrics)`; it takes the state over.

    What the model drops at random, and what is mixed how, depends on `seed` and the step alone.

    The batch has `image` (uint8, NHWC) and what `loss` takes. Metrics are float32 scalars on the
    device: loss, accuracy, learning_rate, the global norms of gradients and parameters,
    `nonfinite` (bad updates in a row), `skipped_updates` (left out so far) and, if any, loss_scale.

    Args:
      loss: `(logits, batch) -> (loss, accuracy)`.
      max_nonfinite, loss_scale: see `judge` and `TrainConfig`.
      deterministic: see `compiler_options`.
      averaging: how the state's average takes up new variables, where there is one.
      mixing, accumulate: see `TrainConfig`.
      teacher: what gives `loss` the logits in the batch's `teacher`.
    """
    gradient = make_gradient(
        model, loss, mean=mean, std=std, mixing=mixing, parts=accumulate, teacher=teacher
    )

    def step(state: TrainState, batch: Batch, taught: Any = None) -> tuple[TrainState, Metrics]:
        guard, scale = state.guard, current_scale(state.guard, loss_scale)
        key = dropout_key(seed, state.step)
        grads, (value, accuracy, stats) = gradient(state.variables, batch, key, scale, taught)
        norm = optax.tree.norm(grads)
        applies, after = judge(guard, value, norm, max_nonfinite, loss_scale)
        variables, memory = update(state, grads, stats, optimizer, applies, mesh)
        average = state.average
        if averaging is not None and average is not None:
            later, due = averaging(average, variables, state.step + 1 - after.skipped)
            average = _choose(applies & due, later, average, mesh)
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
        following = TrainState(state.step + 1, variables, memory, after, average)
        return following, metrics | _votes(batch)

    if teacher is None:
        return jit_over(mesh, step, deterministic, donate_argnums=0)
    taught_step = jit_over(mesh, step, deterministic, copies=1, donate_argnums=0)
    return lambda state, batch: taught_step(state, batch, teacher.variables)


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
    chosen: tuple[dict[str, Any], Any] = _choose(
        applies, (variables, memory), (state.variables, state.optimizer), mesh
    )
    return chosen


def _choose(applies: jax.Array, new: Any, old: Any, mesh: Mesh) -> Any:
    if mesh.devices.flat[0].platform == "cpu":
        # A select would part what XLA:CPU fuses for the update: slower, and rounded otherwise.
        return jax.lax.cond(applies, lambda new, old: new, lambda new, old: old, new, old)
    # A GPU's host would wait for the condition.
    return jax.tree.map(lambda after, before: jnp.where(applies, after, before), new, old)


def jit_over(
    mesh: Mesh, function: Any, deterministic: bool = False, copies: int = 0, **options: Any
) -> Any:
    """Jit a function of state and batch: one on every device, the other split between them.

    Args:
      copies: so many arguments more that are on every device.
    """
    whole, rows = replicated(mesh), split(mesh)
    return jax.jit(
        function,
        in_shardings=(whole, rows, *[whole] * copies),
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
    flip: bool = False,
) -> Callable[[dict[str, Any], Batch], Metrics]:
    """Return the jitted `(variables, batch) -> sums` over the examples that `mask` marks.

    The sums are those of the task; `count` is of examples.

    Args:
      flip: take the mean of the logits of each image and of its mirror image.
    """

    def step(variables: dict[str, Any], batch: Batch) -> Metrics:
        images = normalize(batch["image"], mean, std)
        logits = cast(jax.Array, model.apply(variables, images, train=False))
        if flip:
            mirrored = cast(jax.Array, model.apply(variables, images[:, :, ::-1], train=False))
            # Logits of pixels are mirrored back.
            logits = (logits + (mirrored[:, :, ::-1] if mirrored.ndim == 4 else mirrored)) / 2
        return task.sums(logits, batch) | _votes(batch)

    return jit_over(mesh, step, deterministic)


def _votes(batch: Batch) -> Metrics:
    """Join what the processes voted for, where they vote: whether to stop."""
    return {"stop": batch["stop"].any()} if "stop" in batch else {}
