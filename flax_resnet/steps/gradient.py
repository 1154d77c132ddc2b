"""From a batch of pixels to the gradient of the loss."""

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


def check_accumulation(batch_size: int, parts: int, norm_group: int | None) -> None:
    """Raise `InputError` unless a batch splits into equal parts of whole batch-norm groups."""
    multiple = parts * (norm_group or 1)
    if batch_size % multiple:
        groups = f" and config.model.norm_group is {norm_group}" if norm_group else ""
        raise InputError(
            f"config.accumulate is {parts}{groups}, but config.data.batch_size is {batch_size}; "
            f"expected a multiple of {multiple}"
        )


def split_rows(x: Array, parts: int, norm_group: int | None) -> Array:
    """Return the rows of a batch as (parts, rows of a part, ...).

    A part takes every so manieth batch-norm group, or row where there are none: which, does not
    depend on the number of devices. Rows stay on their device where it has a multiple of `parts`
    times the group.
    """
    group = norm_group or 1
    groups = x.reshape(len(x) // (parts * group), parts, group, *x.shape[1:])
    return jnp.moveaxis(groups, 1, 0).reshape(parts, len(x) // parts, *x.shape[1:])


def split_batch(
    batch: Any, key: jax.Array, parts: int, norm_group: int | None
) -> tuple[Any, jax.Array]:
    """Return the parts of a batch, stacked, and a random key for each."""
    rows = jax.tree.map(lambda leaf: split_rows(leaf, parts, norm_group), batch)
    return rows, jax.random.split(key, parts)


def join_rows(x: Array, norm_group: int | None) -> Array:
    """Return what `split_rows` made parts of, in its first order."""
    parts, rows = x.shape[:2]
    group = norm_group or 1
    groups = x.reshape(parts, rows // group, group, *x.shape[2:])
    return jnp.moveaxis(groups, 0, 1).reshape(parts * rows, *x.shape[2:])


def accumulate(
    function: Callable[..., Any], batch: Any, key: jax.Array, parts: int, norm_group: int | None
) -> Any:
    """Return the mean over the parts of a batch of `function(part, key of the part)`, a tree.

    Only one part's computation is in memory at a time; on CPUs all are, for the sake of speed.
    """
    rows, keys = split_batch(batch, key, parts, norm_group)
    shapes = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], rows), keys[0])
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(sums: Any, part: tuple[Any, jax.Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, function(*part)), None

    # XLA:CPU is many times slower at convolutions in loops.
    sums, _ = jax.lax.scan(add, zeros, (rows, keys), unroll=jax.default_backend() == "cpu")
    return jax.tree.map(lambda leaf: leaf / parts, sums)


Gradient = Callable[..., tuple[Any, tuple[jax.Array, jax.Array, Any]]]
# What the keys of mixing differ in from those of what the model drops.
_MIXING = 0x6D6978


def normalize(
    images: UInt8[Array, "n h w c"], mean: tuple[float, ...], std: tuple[float, ...]
) -> Float[Array, "n h w c"]:
    """Scale pixels from 0..255 to 0..1, subtract the channels' means, divide by their spread."""
    scale = 1 / (255 * jnp.asarray(std, jnp.float32))
    shift = jnp.asarray(mean, jnp.float32) / jnp.asarray(std, jnp.float32)
    return images * scale[None, None, None] - shift[None, None, None]


def dropout_key(seed: int, step: jax.Array | int) -> jax.Array:
    """Return the key of what is random in the update after `step` batches: drops and mixing."""
    return jax.random.fold_in(jax.random.key(seed), step)


def prepare_batch(
    batch: Batch,
    key: jax.Array,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    mixing: MixConfig | None = None,
) -> Batch:
    """Return a batch as the model sees it in training: normalised, and mixed where that is on."""
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
    parts: int = 1,
    teacher: Teacher | None = None,
) -> Gradient:
    """Return `(variables, batch, key, scale, taught) -> (gradient, (loss, accuracy, batch_stats))`.

    With a `scale` the gradient is that of the loss times `scale`, divided by it: what lies between
    may then be too small for the compute dtype otherwise.

    Args:
      parts: the batch is computed in so many parts; see `TrainConfig.accumulate`.
      teacher: its logits for the same images go to the loss as `teacher` of the batch; `taught`
        are its variables.
    """

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

    def gradient(
        variables: dict[str, Any],
        batch: Batch,
        key: jax.Array,
        scale: jax.Array | None = None,
        taught: Any = None,
    ) -> tuple[Any, tuple[jax.Array, jax.Array, Any]]:
        def of(batch: Batch, key: jax.Array) -> tuple[Any, tuple[jax.Array, jax.Array, Any]]:
            if teacher is not None:
                batch = batch | {"teacher": teacher.logits(taught, batch["image"], mean, std)}
            grad_fn = jax.grad(loss_fn, has_aux=True)
            return grad_fn(variables["params"], variables["batch_stats"], batch, key, scale)

        batch = prepare_batch(batch, key, mean=mean, std=std, mixing=mixing)
        if parts == 1:
            grads, outcome = of(batch, key)
        else:
            grads, outcome = _in_parts(of, variables["batch_stats"], batch, key)
        if scale is not None:
            grads = jax.tree.map(lambda leaf: leaf / scale, grads)
        return grads, outcome

    def _in_parts(
        of: Gradient, before: Any, batch: Batch, key: jax.Array
    ) -> tuple[Any, tuple[jax.Array, jax.Array, Any]]:
        def changes(batch: Batch, key: jax.Array) -> Any:
            grads, (value, accuracy, stats) = of(batch, key)
            # Of statistics the changes, so that those of frozen norms stay to the last bit.
            return grads, value, accuracy, jax.tree.map(jnp.subtract, stats, before)

        group = cast(int | None, getattr(model, "norm_group", None))
        grads, value, accuracy, moved = accumulate(changes, batch, key, parts, group)
        return grads, (value, accuracy, jax.tree.map(jnp.add, before, moved))

    return gradient
