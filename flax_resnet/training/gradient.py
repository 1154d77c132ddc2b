"""From a batch of pixels to the gradient of the loss."""

from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from flax_resnet.training.accumulation import accumulate
from flax_resnet.training.mixing import MixConfig, mix
from flax_resnet.training.tasks.distillation import Teacher
from flax_resnet.training.tasks.table import Batch, Loss

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
