"""The jitted steps: one update, and the evaluation of one batch."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from flax_resnet.models.variables import part_of
from flax_resnet.onednn.choice import choose_kernels, cpu_kernels, for_inference
from flax_resnet.steps.averages import Averaging
from flax_resnet.steps.gradient import dropout_key, make_gradient, normalize
from flax_resnet.steps.mesh import compiler_options, replicated, split
from flax_resnet.steps.mixing import MixConfig
from flax_resnet.steps.state import TrainState
from flax_resnet.steps.tasks.classification import among
from flax_resnet.steps.tasks.distillation import Teacher
from flax_resnet.steps.tasks.table import CLASSIFICATION, Batch, Loss, Metrics, Task
from flax_resnet.steps.updates.guard import NONE, check_update, current_scale


@dataclass(frozen=True)
class StepParts:
    """Everything that a training step is made of, except the devices.

    Attributes:
      learning_rate: the schedule that `optimizer` follows; the step only reports its value. None:
        it is not known.
      mean, std: of each channel, to normalize the images with.
      loss: `(logits, batch) -> (loss, accuracy)`.
      seed: decides, together with the step's number, what the model drops and how images are mixed.
      max_nonfinite, loss_scale: see `check_update` and `TrainConfig`.
      deterministic: see `compiler_options`.
      averaging: updates the average in the state, if there is one.
      mixing, accumulate: see `TrainConfig`.
      stage_gradients: also report the gradient norm of each part of the network.
      teacher: computes the logits that `loss` finds in the batch as `teacher`.
    """

    model: nn.Module
    optimizer: optax.GradientTransformation
    learning_rate: optax.Schedule | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    loss: Loss = CLASSIFICATION.loss
    seed: int = 0
    max_nonfinite: int | None = None
    loss_scale: str = NONE
    deterministic: bool = False
    averaging: Averaging | None = None
    mixing: MixConfig | None = None
    accumulate: int = 1
    stage_gradients: bool = False
    teacher: Teacher | None = None


def make_train_step(
    parts: StepParts, mesh: Mesh
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Return the jitted update `(state, batch) -> (state, metrics)`; it donates the state.

    The batch has `image` (uint8, NHWC) and what the loss needs. Metrics are float32 scalars on the
    device: loss, accuracy, learning_rate, the global norms of gradients and parameters,
    `nonfinite` (bad updates in a row), `skipped_updates` (since the start) and, if they are asked
    for, loss_scale and what `stage_norms` returns.
    """
    gradient = make_gradient(
        parts.model,
        parts.loss,
        mean=parts.mean,
        std=parts.std,
        mixing=parts.mixing,
        micro_batches=parts.accumulate,
        teacher=parts.teacher,
    )
    teacher, averaging = parts.teacher, parts.averaging

    def step(
        state: TrainState, batch: Batch, teacher_variables: Any = None
    ) -> tuple[TrainState, Metrics]:
        guard, scale = state.guard, current_scale(state.guard, parts.loss_scale)
        key = dropout_key(parts.seed, state.step)
        grads, (loss, accuracy, stats) = gradient(
            state.variables, batch, key, scale, teacher_variables
        )
        norm = optax.tree.norm(grads)
        applies, after = check_update(guard, loss, norm, parts.max_nonfinite, parts.loss_scale)
        variables, optimizer_state = update(state, grads, stats, parts.optimizer, applies, mesh)
        average = state.average
        if averaging is not None and average is not None:
            new_average, due = averaging(average, variables, state.step + 1 - after.skipped)
            average = _choose(applies & due, new_average, average, mesh)
        metrics = {
            "loss": loss,
            "accuracy": accuracy,
            "gradient_norm": norm,
            "parameter_norm": optax.tree.norm(variables["params"]),
            "nonfinite": after.streak,
            "skipped_updates": after.skipped,
            **({} if scale is None else {"loss_scale": scale}),
            **(stage_norms(grads) if parts.stage_gradients else {}),
        }
        if parts.learning_rate is not None:
            # The optimizer counts only the updates that were applied.
            metrics["learning_rate"] = parts.learning_rate(state.step - guard.skipped)
        metrics = jax.tree.map(lambda number: jnp.asarray(number, jnp.float32), metrics)
        new_state = TrainState(state.step + 1, variables, optimizer_state, after, average)
        return new_state, metrics | _stop_vote(batch)

    if teacher is None:
        return jit_over(mesh, step, parts.deterministic, donate_argnums=0)
    jitted = jit_over(mesh, step, parts.deterministic, extra_replicated=1, donate_argnums=0)
    return lambda state, batch: jitted(state, batch, teacher.variables)


def stage_norms(gradient: Any) -> Metrics:
    """Return the norm of the gradient of each part of a network, as `gradient_norm/layer1`."""
    parts: dict[str, list[jax.Array]] = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        parts.setdefault(part_of(key.key for key in path), []).append(leaf)
    return {f"gradient_norm/{part}": optax.tree.norm(leaves) for part, leaves in parts.items()}


def update(
    state: TrainState,
    grads: Any,
    batch_stats: Any,
    optimizer: optax.GradientTransformation,
    applies: jax.Array,
    mesh: Mesh,
) -> tuple[dict[str, Any], Any]:
    """Return variables and optimizer state after the update, or the old ones unless `applies`."""
    params = state.variables["params"]
    updates, optimizer_state = optimizer.update(grads, state.optimizer, params)
    variables = {"params": optax.apply_updates(params, updates), "batch_stats": batch_stats}
    chosen: tuple[dict[str, Any], Any] = _choose(
        applies, (variables, optimizer_state), (state.variables, state.optimizer), mesh
    )
    return chosen


def _choose(applies: jax.Array, new: Any, old: Any, mesh: Mesh) -> Any:
    if mesh.devices.flat[0].platform == "cpu":
        # A select would break up the operations that XLA:CPU fuses for the update: slower, and
        # rounded differently.
        return jax.lax.cond(applies, lambda new, old: new, lambda new, old: old, new, old)
    # On a GPU a conditional would make the host wait for `applies`.
    return jax.tree.map(lambda after, before: jnp.where(applies, after, before), new, old)


def jit_over(
    mesh: Mesh,
    function: Any,
    deterministic: bool = False,
    extra_replicated: int = 0,
    **options: Any,
) -> Any:
    """Jit a function of a state, replicated on every device, and a batch, split over them.

    Args:
      extra_replicated: the number of further arguments, which are replicated like the state.
    """
    everywhere, rows = replicated(mesh), split(mesh)
    kernels = choose_kernels(mesh)

    @functools.wraps(function)
    def traced(*arguments: Any) -> Any:
        with cpu_kernels(kernels):
            return function(*arguments)

    return jax.jit(
        traced,
        in_shardings=(everywhere, rows, *[everywhere] * extra_replicated),
        out_shardings=everywhere,
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
    outputs: tuple[int, ...] = (),
) -> Callable[[dict[str, Any], Batch], Metrics]:
    """Return the jitted `(variables, batch) -> sums` over the examples that `mask` marks.

    The sums are the task's; `count` is the number of examples.

    Args:
      flip: average the logits of each image and of its mirror image.
      outputs: the classes among which predictions are chosen, where they are not all classes.
    """

    def step(variables: dict[str, Any], batch: Batch) -> Metrics:
        images = normalize(batch["image"], mean, std)
        logits = cast(jax.Array, model.apply(variables, images, train=False))
        if flip:
            mirrored = cast(jax.Array, model.apply(variables, images[:, :, ::-1], train=False))
            # Logits of pixels are mirrored back.
            logits = (logits + (mirrored[:, :, ::-1] if mirrored.ndim == 4 else mirrored)) / 2
        return task.sums(among(logits, outputs), batch) | _stop_vote(batch)

    return jit_over(mesh, for_inference(step), deterministic)


def _stop_vote(batch: Batch) -> Metrics:
    """Return whether any process voted to stop, if the batch carries votes."""
    return {"stop": batch["stop"].any()} if "stop" in batch else {}
