"""One gradient out of several smaller batches, one after the other, for less memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from flax_resnet.errors import InputError


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
