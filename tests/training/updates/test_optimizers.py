"""Optimisers agree with torch's, step by step in float64."""

from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flax_resnet.errors import InputError
from flax_resnet.training.updates.config import OptimizerConfig
from flax_resnet.training.updates.optimizers import OPTIMIZERS, begin_at, make_optimizer

STEPS = 10
GOLDENS = Path(__file__).parents[2] / "goldens" / "optim.npz"
SETTINGS = {
    "sgd_momentum": (OptimizerConfig(name="sgd", weight_decay=1e-2), 0.1),
    "sgd_nesterov": (OptimizerConfig(name="sgd", weight_decay=1e-2, nesterov=True), 0.1),
    "adamw": (OptimizerConfig(name="adamw", weight_decay=0.05), 1e-2),
    "rmsprop_tf": (OptimizerConfig(name="rmsprop_tf", weight_decay=1e-2), 1e-2),
    "lamb": (OptimizerConfig(name="lamb", weight_decay=0.02), 1e-2),
    "lars": (OptimizerConfig(name="lars", weight_decay=1e-2), 0.5),
}


def read(arrays: Any, prefix: str) -> dict[str, jax.Array]:
    return {
        key.removeprefix(prefix): jnp.asarray(arrays[key], jnp.float64)
        for key in arrays
        if key.startswith(prefix)
    }


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SETTINGS)
def test_ten_steps_equal_torchs(name: str) -> None:
    config, peak = SETTINGS[name]
    optimizer = make_optimizer(config, lambda step: jnp.where(step < 5, peak, peak / 10))
    with np.load(GOLDENS) as arrays:
        params: Any = read(arrays, "init/")
        state = optimizer.init(params)
        for step in range(STEPS):
            updates, state = optimizer.update(read(arrays, f"grad/{step}/"), state, params)
            params = optax.apply_updates(params, updates)
            for key, expected in read(arrays, f"{name}/{step}/").items():
                np.testing.assert_allclose(params[key], expected, rtol=1e-10, atol=1e-12)


def test_weight_decay_can_leave_out_norms_and_biases() -> None:
    params = {"conv1": {"kernel": jnp.ones((3, 3, 1, 2))}, "bn1": {"scale": jnp.ones(2)}}
    config = OptimizerConfig(weight_decay=0.5, decay_norms=False)
    optimizer = make_optimizer(config, optax.constant_schedule(1.0))
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    np.testing.assert_array_equal(updates["conv1"]["kernel"], -0.5)
    np.testing.assert_array_equal(updates["bn1"]["scale"], 0)


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match="sgd"):
        make_optimizer(OptimizerConfig(name="sdg"), optax.constant_schedule(1.0))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_schedule_of_a_new_optimizer_can_begin_where_another_one_left_off(name: str) -> None:
    params = {"conv1": {"kernel": jnp.ones((1, 1, 2, 2))}}
    config = OptimizerConfig(name=name, weight_decay=0.0)
    rates = lambda start: jax.tree.leaves(  # noqa: E731
        optimizer.update(params, begin_at(optimizer.init(params), jnp.int32(start)), params)[0]
    )[0]
    optimizer = make_optimizer(config, lambda step: jnp.where(step < 5, 1.0, 0.1))
    np.testing.assert_allclose(rates(5), 0.1 * rates(0), rtol=1e-6)


NETWORK = {
    "conv1": {"kernel": np.random.default_rng(0).standard_normal((3, 3, 4, 6), np.float32)},
    "bn1": {"scale": np.ones(6, np.float32)},
    "fc": {"kernel": np.ones((6, 2), np.float32), "bias": np.ones(2, np.float32)},
}


def first_update(config: OptimizerConfig, gradient: Any = None) -> Any:
    optimizer = make_optimizer(config, optax.constant_schedule(1.0))
    params = jax.tree.map(jnp.asarray, NETWORK)
    gradient = params if gradient is None else gradient
    return optimizer.update(gradient, optimizer.init(params), params)[0]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_largest_norm_limits_all_gradients_together(name: str) -> None:
    config = OptimizerConfig(name=name, weight_decay=0.0, clip_norm=0.5)
    unit = jax.tree.map(lambda leaf: jnp.float32(leaf / optax.tree.norm(NETWORK)), NETWORK)
    long = jax.tree.map(lambda leaf: 100 * leaf, unit)
    short = jax.tree.map(lambda leaf: 0.5 * leaf, unit)
    chex.assert_trees_all_close(
        first_update(config, long), first_update(config, short), rtol=1e-4, atol=1e-6
    )


def test_a_rate_decays_from_part_to_part() -> None:
    updates = first_update(OptimizerConfig(weight_decay=0.0, layer_decay=0.5))
    np.testing.assert_allclose(updates["fc"]["bias"], -1.0)
    np.testing.assert_allclose(updates["bn1"]["scale"], -0.5)


def test_muon_makes_kernels_orthogonal_and_leaves_the_rest_to_adam() -> None:
    config = OptimizerConfig(name="muon", weight_decay=0.0, vector_rate=0.25)
    updates = first_update(config)
    matrix = np.asarray(NETWORK["conv1"]["kernel"]).reshape(36, 6)
    left, _, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    found = -np.asarray(updates["conv1"]["kernel"]).reshape(36, 6)
    # Five steps of Newton and Schulz bring singular values near to one, not to it.
    values = np.linalg.svd(found, compute_uv=False)
    assert 0.6 < values.min() and values.max() < 1.3
    # They leave the directions as they are.
    inner = left.T @ found @ right.T
    np.testing.assert_allclose(inner, np.diag(np.diag(inner)), atol=1e-5)
    np.testing.assert_allclose(updates["fc"]["kernel"], -0.25, rtol=1e-4)
    np.testing.assert_allclose(updates["bn1"]["scale"], -0.25, rtol=1e-4)


@pytest.mark.parametrize(
    ("key", "value"), [("epsilon", 0.0), ("clip_norm", -1.0), ("layer_decay", 0.0), ("trust", 0.0)]
)
def test_settings_that_cannot_work_are_refused(key: str, value: float) -> None:
    with pytest.raises(InputError, match=f"config.optimizer.{key} is {value}"):
        OptimizerConfig(**{key: value})
