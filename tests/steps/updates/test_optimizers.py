"""Optimizers agree with torch's, or with their authors', step by step in float64."""

import functools
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flax_resnet.errors import InputError
from flax_resnet.models import create_model, to_layout, variable_shapes
from flax_resnet.steps.updates.config import OptimizerConfig
from flax_resnet.steps.updates.optimizers import OPTIMIZERS, begin_at, make_optimizer

STEPS = 10
GOLDENS = Path(__file__).parents[2] / "goldens"
MUON = dict(name="muon", momentum=0.95, weight_decay=0.05)
SETTINGS = {
    "sgd_momentum": (OptimizerConfig(name="sgd", weight_decay=1e-2), 0.1),
    "sgd_nesterov": (OptimizerConfig(name="sgd", weight_decay=1e-2, nesterov=True), 0.1),
    "adamw": (OptimizerConfig(name="adamw", weight_decay=0.05), 1e-2),
    "rmsprop_tf": (OptimizerConfig(name="rmsprop_tf", weight_decay=1e-2), 1e-2),
    "lamb": (OptimizerConfig(name="lamb", weight_decay=0.02), 1e-2),
    "lars": (OptimizerConfig(name="lars", weight_decay=1e-2), 0.5),
    "muon": (OptimizerConfig(**MUON), 0.02),
    "muon_nesterov": (OptimizerConfig(**MUON, nesterov=True), 0.02),
}
# Muon depends on names and axes.
NAMES = {
    "conv.weight": ("conv1", "kernel"),
    "tall.weight": ("layer1", "kernel"),
    "bn.weight": ("bn1", "scale"),
    "fc.weight": ("fc", "kernel"),
    "fc.bias": ("fc", "bias"),
}


def goldens(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDENS / "optim.npz") as inputs, np.load(GOLDENS / "updates.npz") as updates:
        arrays = {**inputs, **updates}
    if name.startswith("muon"):
        # More outputs than inputs: the only case in which Muon's scale matters.
        tall = {key: value[:, :, 1:2, 1:2] for key, value in arrays.items() if "/conv" in key}
        arrays = {key.replace("conv", "tall"): value for key, value in tall.items()} | arrays
    return arrays


def read(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, dict[str, jax.Array]]:
    tree: dict[str, dict[str, jax.Array]] = {}
    for key, value in arrays.items():
        if key.startswith(prefix):
            module, leaf = NAMES[key.removeprefix(prefix)]
            axes = (*range(2, value.ndim), 1, 0) if value.ndim > 1 else (0,)
            tree.setdefault(module, {})[leaf] = jnp.asarray(value.transpose(axes), jnp.float64)
    return tree


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", SETTINGS)
def test_ten_steps_equal_the_published_ones(name: str) -> None:
    config, peak = SETTINGS[name]
    optimizer = make_optimizer(config, lambda step: jnp.where(step < 5, peak, peak / 10))
    arrays = goldens(name)
    params: Any = read(arrays, "init/")
    state = optimizer.init(params)
    for step in range(STEPS):
        updates, state = optimizer.update(read(arrays, f"grad/{step}/"), state, params)
        params = optax.apply_updates(params, updates)
        expected = read(arrays, f"{name}/{step}/")
        if expected:
            chex.assert_trees_all_close(params, expected, rtol=1e-10, atol=1e-12)
    assert expected


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


@pytest.mark.parametrize("nesterov", [False, True])
def test_muon_makes_kernels_orthogonal_and_leaves_the_rest_to_adam(nesterov: bool) -> None:
    config = OptimizerConfig(name="muon", nesterov=nesterov, weight_decay=0.0, vector_rate=0.25)
    updates = first_update(config)
    matrix = np.asarray(NETWORK["conv1"]["kernel"]).reshape(36, 6)
    left, _, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    found = -np.asarray(updates["conv1"]["kernel"]).reshape(36, 6)
    # Five Newton-Schulz steps bring singular values close to one, but not exactly.
    values = np.linalg.svd(found, compute_uv=False)
    assert 0.6 < values.min() and values.max() < 1.3
    # They do not change the directions.
    inner = left.T @ found @ right.T
    np.testing.assert_allclose(inner, np.diag(np.diag(inner)), atol=1e-5)
    np.testing.assert_allclose(updates["fc"]["kernel"], -0.25, rtol=1e-4)
    np.testing.assert_allclose(updates["bn1"]["scale"], -0.25, rtol=1e-4)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_decoupled_decay_can_apply_only_to_kernels_including_the_heads(name: str) -> None:
    config = OptimizerConfig(name=name, weight_decay=0.5, vector_rate=1.0, decay_norms=False)
    updates = first_update(config, jax.tree.map(jnp.zeros_like, NETWORK))
    np.testing.assert_allclose(updates["conv1"]["kernel"], -0.5 * NETWORK["conv1"]["kernel"])
    np.testing.assert_allclose(updates["fc"]["kernel"], -0.5 * NETWORK["fc"]["kernel"])
    np.testing.assert_array_equal(updates["fc"]["bias"], 0)
    np.testing.assert_array_equal(updates["bn1"]["scale"], 0)


def make_network(scan: bool) -> Any:
    return create_model(
        "resnet18", stage_sizes=(4,), widths=(8,), gate="eca", num_classes=3, scan_blocks=scan
    )


def random_like(shapes: Any, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape)), shapes)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("decay_norms", [pytest.param(True, marks=pytest.mark.slow), False])
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n != "muon")) for n in OPTIMIZERS],
)
def test_scanned_blocks_are_updated_as_single_ones(name: str, decay_norms: bool) -> None:
    config = OptimizerConfig(
        name=name, weight_decay=0.1, decay_norms=decay_norms, clip_adaptive=0.1, layer_decay=0.5
    )
    shapes = variable_shapes(make_network(scan=False))["params"]
    params, gradient = random_like(shapes, 0), random_like(shapes, 1)
    gradient["layer1"]["2"] = jax.tree.map(lambda leaf: 30 * leaf, gradient["layer1"]["2"])
    found = []
    for scan in (False, True):
        model, optimizer = make_network(scan), make_optimizer(config, lambda step: 0.1)
        layout = functools.partial(to_layout, model)
        state = optimizer.init(layout({"params": params})["params"])
        own = (layout({"params": tree})["params"] for tree in (gradient, params))
        updates, _ = optimizer.update(next(own), state, next(own))
        found.append(to_layout(make_network(scan=False), {"params": updates}))
    chex.assert_trees_all_close(*found, rtol=1e-9, atol=1e-12)


def test_frozen_parts_do_not_change_the_rates_of_others() -> None:
    config = OptimizerConfig(weight_decay=0.0, layer_decay=0.5)
    params = jax.tree.map(jnp.asarray, NETWORK)
    optimizer = make_optimizer(config, optax.constant_schedule(1.0), freeze="head")
    updates, _ = optimizer.update(params, optimizer.init(params), params)
    np.testing.assert_allclose(updates["bn1"]["scale"], -0.5)
    np.testing.assert_array_equal(updates["fc"]["bias"], 0)


@pytest.mark.parametrize(
    ("key", "value"), [("epsilon", 0.0), ("clip_norm", -1.0), ("layer_decay", 0.0), ("trust", 0.0)]
)
def test_invalid_settings_are_refused(key: str, value: float) -> None:
    with pytest.raises(InputError, match=f"config.optimizer.{key} is {value}"):
        OptimizerConfig(**{key: value})
