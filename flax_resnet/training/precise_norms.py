"""Batch statistics that fit the parameters of an evaluation.

Running statistics lag behind the parameters, and averaged parameters do not have any: both can be
recomputed from training batches (Wu and Johnson, arXiv:2105.07576). After few updates from random
weights, running statistics also still contain what they started from.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from flax_resnet.models.layers.convolution import at_least_float32
from flax_resnet.models.layers.norms import BatchNorm
from flax_resnet.steps.gradient import dropout_key, normalize
from flax_resnet.steps.mesh import put_batch, replicated
from flax_resnet.steps.step import jit_over
from flax_resnet.training.setup import Setup

Variables = dict[str, Any]


class Moments(flax.struct.PyTreeNode):
    """Moments of every batch norm over the batches so far; trees like the batch statistics.

    Attributes:
      count: number of batches, int32.
      mean: mean of the batches' statistics.
      spread: sum of squared deviations from the mean.
    """

    count: Any
    mean: Any
    spread: Any


Measure = Callable[[tuple[Variables, Moments, Any], dict[str, jax.Array]], Moments]


def make_measure(
    model: nn.Module,
    mesh: Mesh,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    seed: int = 0,
    deterministic: bool = False,
) -> Measure:
    """Return the jitted `((variables, moments, number), batch) -> moments` that adds a batch.

    The network sees batch `number` as in training, with the same dropout; nothing else changes.
    """

    def measure(whole: tuple[Variables, Moments, Any], batch: dict[str, jax.Array]) -> Moments:
        variables, moments, number = whole
        with nn.intercept_methods(_store_moments):
            _, updates = model.apply(
                variables,
                normalize(batch["image"], mean, std),
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": dropout_key(seed, number)},
            )
        found, count = updates["batch_stats"], moments.count + 1
        # Welford's algorithm: statistics that are equal in all batches, such as a frozen norm's,
        # stay exact.
        before = jax.tree.map(jnp.subtract, found, moments.mean)
        centre = jax.tree.map(lambda old, delta: old + delta / count, moments.mean, before)
        after = jax.tree.map(jnp.subtract, found, centre)
        spread = jax.tree.map(lambda sum_, a, b: sum_ + a * b, moments.spread, before, after)
        return Moments(count, centre, spread)

    return jit_over(mesh, measure, deterministic)


def population(moments: Moments) -> Any:
    """Return the statistics of all batches together.

    The variance is the mean of the batches' variances plus the variance of their means.
    """

    def join(centre: Any, spread: Any) -> Any:
        if not isinstance(centre, Mapping):
            return centre
        joined = {key: join(centre[key], spread[key]) for key in centre}
        if joined.keys() == {"mean", "var"}:
            joined["var"] = centre["var"] + spread["mean"] / moments.count
        return joined

    return join(moments.mean, moments.spread)


def without_start(batch_stats: Any, updates: int) -> Any:
    """Return running statistics without their initial values, mean 0 and variance 1.

    After n updates a share of m^n of them is left, where m is the momentum: 28 % after 12 updates,
    which multiplies the activations of each of a network's layers. As in Adam (arXiv:1412.6980),
    the rest is divided by 1 - m^n. Statistics of frozen norms stay as they are.
    """
    left = BatchNorm.momentum**updates

    def correct(stats: Any) -> Any:
        if not isinstance(stats, Mapping):
            return stats
        if stats.keys() != {"mean", "var"}:
            return {name: correct(part) for name, part in stats.items()}
        mean, var = stats["mean"] / (1 - left), (stats["var"] - left) / (1 - left)
        untouched = (stats["mean"] == 0) & (stats["var"] == 1)
        return {
            "mean": jnp.where(untouched, stats["mean"], mean),
            "var": jnp.where(untouched, stats["var"], jnp.maximum(var, 0)),
        }

    return correct(batch_stats)


def measured_norms(
    setup: Setup, measure: Measure, several: Sequence[Variables], step: int
) -> list[Variables]:
    """Return each of `several` with the batch statistics of the training batches after `step`.

    These are `config.average.precise_batches` batches, which depend only on `step`.
    """
    config, whole = setup.config, replicated(setup.mesh)
    batches = setup.training_batches(step, config.average.precise_batches)
    found = [_nothing(variables["batch_stats"], whole) for variables in several]
    try:
        for number, batch in enumerate(batches, start=step):
            rows = put_batch({"image": batch["image"]}, setup.mesh)
            for at, variables in enumerate(several):
                found[at] = measure((variables, found[at], np.int32(number)), rows)
    finally:
        batches.close()
    join = jax.jit(population, out_shardings=whole)
    return [
        variables | {"batch_stats": join(moments)}
        for variables, moments in zip(several, found, strict=True)
    ]


def _nothing(batch_stats: Any, sharding: jax.sharding.Sharding) -> Moments:
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), batch_stats)
    return jax.device_put(Moments(np.int32(0), zeros, zeros), sharding)


def _store_moments(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
    """Let a batch norm in training store the mean and variance of this batch alone."""
    result, norm = call(*args, **kwargs), context.module
    trains = kwargs.get("train", args[1] if len(args) > 1 else False)
    if isinstance(norm, BatchNorm) and context.method_name == "__call__" and trains:
        images = at_least_float32(args[0])
        axes = tuple(range(images.ndim - 1))
        norm.put_variable("batch_stats", "mean", images.mean(axes))
        norm.put_variable("batch_stats", "var", images.var(axes))
    return result
