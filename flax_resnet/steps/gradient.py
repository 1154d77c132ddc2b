"""The gradient of the loss for a batch of pixels, at once or accumulated over micro-batches."""

from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from flax_resnet.errors import InputError
from flax_resnet.steps.mixing import MixConfig, mix
from flax_resnet.steps.tasks.distillation import Teacher
from flax_resnet.steps.tasks.table import Batch, Loss

# gradient, (loss, accuracy, batch_stats)
Outcome = tuple[Any, tuple[jax.Array, jax.Array, Any]]
Gradient = Callable[..., Outcome]
# Folded into the key, so that mixing and dropout draw independently.
_MIXING = 0x6D6978


def normalize(
    images: UInt8[Array, "n h w c"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, "n h w c"]:
    """Scale pixels from 0..255 to 0..1, subtract each channel's mean, divide by its deviation."""
    scale = 1 / (255 * jnp.asarray(std, jnp.float32))
    shift = jnp.asarray(mean, jnp.float32) / jnp.asarray(std, jnp.float32)
    return images * scale[None, None, None] - shift[None, None, None]


def dropout_key(seed: int, step: jax.Array | int) -> jax.Array:
    """Return the random key of the update after `step` batches, for dropout and mixing."""
    return jax.random.fold_in(jax.random.key(seed), step)


def prepare_batch(
    batch: Batch,
    key: jax.Array,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    mixing: MixConfig | None = None,
) -> Batch:
    """Return the batch that the model sees in training: normalized, and mixed if that is on."""
    batch = batch | {"image": normalize(batch["image"], mean, std)}
    if mixing is None or not mixing.active:
        return batch
    return mix(batch, jax.random.fold_in(key, _MIXING), mixing)


def make_gradient(
    model: nn.Module,
    loss: Loss,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    mixing: MixConfig | None = None,
    micro_batches: int = 1,
    teacher: Teacher | None = None,
) -> Gradient:
    """Return a function that computes the gradient of the loss for a batch.

    It maps `(variables, batch, key, scale, teacher_variables)` to
    `(gradient, (loss, accuracy, batch_stats))`. With a `scale` it differentiates the loss times
    `scale` and divides the gradient by it, so that small intermediate values do not underflow in
    the compute dtype.

    Args:
      micro_batches: the number of micro-batches that a batch is split into; see
        `TrainConfig.accumulate`.
      teacher: the loss finds its logits for the same images in the batch as `teacher`.
    """
    loss_fn = _loss_function(model, loss)
    group = cast(int | None, getattr(model, "norm_group", None))

    def gradient(
        variables: dict[str, Any],
        batch: Batch,
        key: jax.Array,
        scale: jax.Array | None = None,
        teacher_variables: Any = None,
    ) -> Outcome:
        def at_once(batch: Batch, key: jax.Array) -> Outcome:
            if teacher is not None:
                logits = teacher.logits(teacher_variables, batch["image"], mean, std)
                batch = batch | {"teacher": logits}
            grad_fn = jax.grad(loss_fn, has_aux=True)
            return grad_fn(variables["params"], variables["batch_stats"], batch, key, scale)

        batch = prepare_batch(batch, key, mean=mean, std=std, mixing=mixing)
        if micro_batches == 1:
            grads, outcome = at_once(batch, key)
        else:
            before = variables["batch_stats"]
            grads, outcome = _accumulated(at_once, before, batch, key, micro_batches, group)
        if scale is not None:
            grads = jax.tree.map(lambda leaf: leaf / scale, grads)
        return grads, outcome

    return gradient


def _loss_function(model: nn.Module, loss: Loss) -> Callable[..., tuple[jax.Array, Any]]:
    """Return the function to differentiate: the scaled loss, with (loss, accuracy, batch_stats)."""

    def loss_fn(
        params: Any, batch_stats: Any, batch: Batch, key: jax.Array, scale: jax.Array | None
    ) -> tuple[jax.Array, Any]:
        logits, updates = model.apply(
            {"params": params, "batch_stats": batch_stats},
            batch["image"],
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": key},
        )
        value, accuracy = loss(logits, batch)
        scaled = value if scale is None else value * scale
        return scaled, (value, accuracy, updates.get("batch_stats", {}))

    return loss_fn


def _accumulated(
    at_once: Gradient, before: Any, batch: Batch, key: jax.Array, count: int, group: int | None
) -> Outcome:
    """Return the mean over micro-batches of gradient, loss, accuracy and new statistics."""

    def changes(batch: Batch, key: jax.Array) -> Any:
        grads, (value, accuracy, stats) = at_once(batch, key)
        # Averaging changes instead of statistics leaves those of frozen norms bit-identical.
        return grads, value, accuracy, jax.tree.map(jnp.subtract, stats, before)

    grads, value, accuracy, moved = mean_over_micro_batches(changes, batch, key, count, group)
    return grads, (value, accuracy, jax.tree.map(jnp.add, before, moved))


def check_accumulation(batch_size: int, count: int, norm_group: int | None) -> None:
    """Raise `InputError` unless a batch splits into `count` micro-batches of whole norm groups."""
    multiple = count * (norm_group or 1)
    if batch_size % multiple:
        groups = f" and config.model.norm_group is {norm_group}" if norm_group else ""
        raise InputError(
            f"config.accumulate is {count}{groups}, but config.data.batch_size is {batch_size}; "
            f"expected a multiple of {multiple}"
        )


def split_rows(x: Array, count: int, norm_group: int | None) -> Array:
    """Return the rows of a batch as (count, rows of a micro-batch, ...).

    Micro-batch i takes the batch-norm groups, or without groups the rows, i, i + count, and so on,
    independently of the number of devices. Rows stay on their device if the rows per device are a
    multiple of `count` times the group size.
    """
    group = norm_group or 1
    groups = x.reshape(len(x) // (count * group), count, group, *x.shape[1:])
    return jnp.moveaxis(groups, 1, 0).reshape(count, len(x) // count, *x.shape[1:])


def join_rows(x: Array, norm_group: int | None) -> Array:
    """Return the rows that `split_rows` split, in their original order."""
    count, rows = x.shape[:2]
    group = norm_group or 1
    groups = x.reshape(count, rows // group, group, *x.shape[2:])
    return jnp.moveaxis(groups, 0, 1).reshape(count * rows, *x.shape[2:])


def split_batch(
    batch: Any, key: jax.Array, count: int, norm_group: int | None
) -> tuple[Any, jax.Array]:
    """Return the micro-batches of a batch, stacked, and a random key for each."""
    rows = jax.tree.map(lambda leaf: split_rows(leaf, count, norm_group), batch)
    return rows, jax.random.split(key, count)


def mean_over_micro_batches(
    function: Callable[..., Any], batch: Any, key: jax.Array, count: int, norm_group: int | None
) -> Any:
    """Return the mean of `function(micro-batch, its key)`, a tree, over the micro-batches.

    Activations of only one micro-batch are in memory at a time, except on CPUs, for speed.
    """
    rows, keys = split_batch(batch, key, count, norm_group)
    shapes = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], rows), keys[0])
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(sums: Any, micro_batch: tuple[Any, jax.Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, function(*micro_batch)), None

    # XLA:CPU computes convolutions inside loops many times slower.
    sums, _ = jax.lax.scan(add, zeros, (rows, keys), unroll=jax.default_backend() == "cpu")
    return jax.tree.map(lambda leaf: leaf / count, sums)
