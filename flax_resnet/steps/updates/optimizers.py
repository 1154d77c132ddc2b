"""Optimizers by name, as chains of optax transformations."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flax_resnet.errors import require_free, require_known
from flax_resnet.steps.updates.config import OptimizerConfig
from flax_resnet.steps.updates.groups import decay_mask, depths, freeze_parameters, matrix_mask
from flax_resnet.steps.updates.rules import (
    clip_units,
    orthogonal_momentum,
    scale_by_lamb,
    scale_by_lars,
)

# The global norm to which LAMB's published implementations clip the gradients.
LAMB_NORM = 1.0


def _sgd(config: OptimizerConfig, rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    # torch's order: weight decay is added before the momentum, and the learning rate multiplies
    # last, so that a change of it scales the accumulated momentum at once.
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask),
        optax.trace(config.momentum, config.nesterov),
        optax.scale_by_learning_rate(rate),
    )


def _adamw(
    config: OptimizerConfig, rate: optax.Schedule, mask: Any
) -> optax.GradientTransformation:
    """Return Adam with decoupled weight decay (arXiv:1711.05101); without decay this is Adam."""
    epsilon = _or(config.epsilon, 1e-8)
    return optax.adamw(
        rate, config.b1, config.b2, epsilon, weight_decay=config.weight_decay, mask=mask
    )


def _rmsprop(
    config: OptimizerConfig, rate: optax.Schedule, mask: Any
) -> optax.GradientTransformation:
    """Return TensorFlow's RMSProp: squares start at 1, epsilon in the root, momentum last."""
    squares = {"initial_scale": 1.0, "eps_in_sqrt": True}
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, mask),
        optax.scale_by_rms(config.alpha, _or(config.epsilon, 1e-3), **squares),
        optax.scale_by_learning_rate(rate),
        optax.trace(config.momentum, config.nesterov),
    )


def _lars(config: OptimizerConfig, rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    """Return LARS; parameters without weight decay have no trust ratio."""
    adapted = scale_by_lars(config.trust, config.weight_decay)
    return optax.chain(
        adapted if mask is None else optax.masked(adapted, mask),
        optax.trace(config.momentum, config.nesterov),
        optax.scale_by_learning_rate(rate),
    )


def _lamb(config: OptimizerConfig, rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    """Return LAMB (arXiv:1904.00962); parameters without weight decay have no trust ratio."""
    ratio = scale_by_lamb()
    clip = [optax.clip_by_global_norm(LAMB_NORM)] if config.clip_norm is None else []
    return optax.chain(
        *clip,
        optax.scale_by_adam(config.b1, config.b2, _or(config.epsilon, 1e-6)),
        optax.add_decayed_weights(config.weight_decay, mask),
        ratio if mask is None else optax.masked(ratio, mask),
        optax.scale_by_learning_rate(rate),
    )


def _muon(config: OptimizerConfig, rate: optax.Schedule, mask: Any) -> optax.GradientTransformation:
    """Return Muon: orthogonalized momentum for kernels, Adam for the head and all vectors."""
    matrices = optax.chain(
        orthogonal_momentum(config.momentum, config.nesterov),
        optax.add_decayed_weights(config.weight_decay, mask),
        optax.scale_by_learning_rate(rate),
    )
    others = optax.adamw(
        lambda step: config.vector_rate * rate(step),
        config.b1,
        config.b2,
        _or(config.epsilon, 1e-10),
        weight_decay=config.weight_decay,
        mask=mask,
    )

    def labels(params: Any) -> Any:
        return jax.tree.map(lambda found: "matrix" if found else "other", matrix_mask(params))

    return optax.partition({"matrix": matrices, "other": others}, labels)


MakeOptimizer = Callable[[OptimizerConfig, optax.Schedule, Any], optax.GradientTransformation]
OPTIMIZERS: dict[str, MakeOptimizer] = {
    "sgd": _sgd,
    "adamw": _adamw,
    "rmsprop_tf": _rmsprop,
    "lars": _lars,
    "lamb": _lamb,
    "muon": _muon,
}


_BUILT_IN = frozenset(OPTIMIZERS)


def register_optimizer(name: str, make: MakeOptimizer) -> None:
    """Add an optimizer of your own under a name for `config.optimizer.name`.

    Args:
      make: `(config.optimizer, learning_rate, mask) -> transformation`. It multiplies by the
        schedule `learning_rate` itself; `mask` selects the parameters with weight decay, None all.

    Raises:
      InputError: the name is taken.
    """
    require_free("an optimizer", name, OPTIMIZERS, OPTIMIZERS.keys() - _BUILT_IN)
    OPTIMIZERS[name] = make


def own_optimizer(name: str) -> MakeOptimizer | None:
    """Return what `register_optimizer` was given; None for other names."""
    return None if name in _BUILT_IN else OPTIMIZERS.get(name)


def make_optimizer(
    config: OptimizerConfig,
    rate: optax.Schedule,
    freeze: str = "",
    freeze_steps: int | None = None,
    own: optax.GradientTransformation | None = None,
) -> optax.GradientTransformation:
    """Return the optax transformation that `config` describes.

    Args:
      rate: the learning rate as a function of the step.
      own: a transformation that takes the place of the one that `config` names.
      freeze: a pattern of frozen parameters.
      freeze_steps: the number of updates that they are frozen for; None: all.
    """
    require_known("config.optimizer.name", config.name, OPTIMIZERS)
    mask = None if config.decay_norms else decay_mask
    chain = [own or OPTIMIZERS[config.name](config, rate, mask)]
    if config.clip_adaptive is not None:
        chain.insert(0, clip_units(config.clip_adaptive))
    if config.clip_norm:
        chain.insert(0, optax.clip_by_global_norm(config.clip_norm))
    chained = chain[0] if len(chain) == 1 else optax.chain(*chain)
    optimizer = freeze_parameters(chained, freeze, freeze_steps)
    if config.layer_decay == 1:
        return optimizer
    # Outside the freezing, since a part's depth does not depend on what else is frozen.
    return optax.chain(optimizer, _scale_by_depth(config.layer_decay))


def begin_at(optimizer_state: Any, step: jax.Array) -> Any:
    """Return a new optimizer's state with its schedules set to `step` updates."""

    def begin(node: Any) -> Any:
        # A copy, because the training step donates `step` as well.
        return node._replace(count=jnp.copy(step)) if is_schedule(node) else node

    def is_schedule(node: Any) -> bool:
        return isinstance(node, optax.ScaleByScheduleState)

    return jax.tree.map(begin, optimizer_state, is_leaf=is_schedule)


def _scale_by_depth(decay: float) -> optax.GradientTransformation:
    def update(updates: Any, state: optax.EmptyState, params: Any = None) -> Any:
        scaled = jax.tree.map(lambda leaf, depth: leaf * decay**depth, updates, depths(updates))
        return scaled, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
