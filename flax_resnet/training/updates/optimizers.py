"""Optimisers by name, as chains of optax transformations."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flax_resnet.errors import require_known
from flax_resnet.training.config import OptimizerConfig
from flax_resnet.training.updates.freezing import freeze_parameters


def _sgd(config: OptimizerConfig, rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    # torch's order: the decay joins the gradient before the momentum, the rate comes last, so a
    # change of the rate acts at once on what the momentum has gathered.
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask),
        optax.trace(config.momentum, config.nesterov),
        optax.scale_by_learning_rate(rate),
    )


def _adamw(
    config: OptimizerConfig, rate: optax.Schedule, mask: Any
) -> optax.GradientTransformation:
    """Decouple the weight decay (arXiv:1711.05101); with no decay this is Adam."""
    return optax.adamw(
        rate, config.b1, config.b2, config.epsilon, weight_decay=config.weight_decay, mask=mask
    )


OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": _sgd,
    "adamw": _adamw,
}


def decay_mask(params: Any) -> Any:
    """Mark the parameters that weight decay reaches: kernels, but no bias and no norm."""
    # By name and not by axes: in scanned blocks the vectors of a norm are stacked to a matrix.
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def make_optimizer(
    config: OptimizerConfig, rate: optax.Schedule, freeze: str = ""
) -> optax.GradientTransformation:
    """Return the transformation that `config` names.

    Args:
      rate: the learning rate as a function of the step.
      freeze: the pattern of parameters that stay as they are.
    """
    require_known("config.optimizer.name", config.name, OPTIMIZERS)
    mask = None if config.decay_norms else decay_mask
    return freeze_parameters(OPTIMIZERS[config.name](config, rate, mask), freeze)


def begin_at(memory: Any, step: jax.Array) -> Any:
    """Let the schedule of a new optimiser's memory begin after so many updates."""

    def begin(node: Any) -> Any:
        # A copy: the step's own is donated beside it.
        return node._replace(count=jnp.copy(step)) if is_schedule(node) else node

    def is_schedule(node: Any) -> bool:
        return isinstance(node, optax.ScaleByScheduleState)

    return jax.tree.map(begin, memory, is_leaf=is_schedule)
