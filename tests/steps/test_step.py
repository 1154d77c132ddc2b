"""One update and one evaluated batch, on any number of devices."""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from flax_resnet.models import create_model
from flax_resnet.steps.gradient import normalize
from flax_resnet.steps.mesh import data_mesh, put_batch
from flax_resnet.steps.mixing import MixConfig
from flax_resnet.steps.state import TrainState, init_state, make_state
from flax_resnet.steps.step import StepParts, make_eval_step, make_train_step

MEAN, STD = (0.5,), (0.25,)
KEY = jax.random.key(0)
Meshes = Callable[[int], Mesh]
pytestmark = pytest.mark.usefixtures("one_stage")


def batch(count: int = 16) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (count, 8, 8, 1), np.uint8),
        "label": rng.integers(0, 10, count, np.int32),
    }


@functools.cache
def first_step(count: int, **arguments: Any) -> tuple[TrainState, dict[str, jax.Array]]:
    """Return the outcome of one update on `count` devices."""
    mesh = data_mesh(jax.devices()[:count])
    model = create_model("tiny", in_channels=1, **arguments)
    rate = optax.constant_schedule(0.1)
    optimizer = optax.sgd(rate)
    step = make_train_step(StepParts(model, optimizer, rate, MEAN, STD), mesh)
    return step(init_state(model, optimizer, 0, (8, 8, 1), mesh), put_batch(batch(), mesh))


def test_pixels_become_normalized_floats() -> None:
    pixels = np.asarray([0, 255], np.uint8).reshape(1, 1, 2, 1)
    np.testing.assert_allclose(normalize(pixels, MEAN, STD).ravel(), [-2, 2], rtol=1e-6)


@pytest.mark.parametrize(
    ("count", "norm_group"),
    [
        (8, None),
        (2, 2),
        pytest.param(2, None, marks=pytest.mark.slow),
        pytest.param(8, 2, marks=pytest.mark.slow),
    ],
)
def test_an_update_does_not_depend_on_the_number_of_devices(
    count: int, norm_group: int | None
) -> None:
    alone, metrics = first_step(1, norm_group=norm_group)
    shared, others = first_step(count, norm_group=norm_group)
    for key, value in metrics.items():
        np.testing.assert_allclose(others[key], value, rtol=1e-5, err_msg=key)
    chex.assert_trees_all_close(shared.variables, alone.variables, rtol=1e-4, atol=1e-6)


def test_dropout_depends_only_on_seed_and_step(devices: Meshes) -> None:
    model, rate = create_model("tiny", in_channels=1, dropout=0.5), optax.constant_schedule(0.0)
    optimizer = optax.sgd(rate)

    def losses(seed: int, count: int) -> list[float]:
        mesh = devices(count)
        step = make_train_step(StepParts(model, optimizer, rate, MEAN, STD, seed=seed), mesh)
        state, found = init_state(model, optimizer, 0, (8, 8, 1), mesh), []
        for _ in range(3):
            state, metrics = step(state, put_batch(batch(), mesh))
            found.append(float(metrics["loss"]))
        return found

    first = losses(0, 1)
    assert len(set(first)) == 3  # the parameters stay, so the drawn units differ
    np.testing.assert_allclose(losses(0, 2), first, rtol=1e-5)
    assert losses(1, 1) != first


@pytest.mark.slow
def test_mixing_depends_on_the_step_but_not_on_the_devices(devices: Meshes) -> None:
    model, rate = create_model("tiny", in_channels=1), optax.constant_schedule(0.0)
    optimizer, mixing = optax.sgd(rate), MixConfig(mixup=0.4, cutmix=1.0)

    def losses(count: int) -> list[float]:
        mesh = devices(count)
        step = make_train_step(StepParts(model, optimizer, rate, MEAN, STD, mixing=mixing), mesh)
        state, found = init_state(model, optimizer, 0, (8, 8, 1), mesh), []
        for _ in range(3):
            state, metrics = step(state, put_batch(batch(), mesh))
            found.append(float(metrics["loss"]))
        return found

    first = losses(1)
    assert len(set(first)) == 3
    np.testing.assert_allclose(losses(2), first, rtol=1e-5)


def test_disabled_mixing_does_not_change_the_program(devices: Meshes) -> None:
    model, rate, mesh = create_model("tiny"), optax.constant_schedule(0.1), devices(1)
    optimizer = optax.sgd(rate)
    state = jax.eval_shape(functools.partial(make_state, model, optimizer, (8, 8, 3)), KEY)
    rows = {"image": jnp.zeros((4, 8, 8, 3), jnp.uint8), "label": jnp.zeros(4, jnp.int32)}
    off = (None, MixConfig(), MixConfig(mixup=0.4, frequency=0.0))
    texts = {
        make_train_step(StepParts(model, optimizer, rate, MEAN, STD, mixing=mixing), mesh)
        .lower(state, rows)
        .as_text()
        for mixing in off
    }
    assert len(texts) == 1
    assert "xor" not in texts.pop()  # nothing random is drawn


def test_the_gradient_norm_of_every_stage_is_reported_where_it_is_asked_for(
    devices: Meshes,
) -> None:
    mesh, rate = devices(1), optax.constant_schedule(0.1)
    model, optimizer = create_model("tiny", in_channels=1), optax.sgd(rate)
    parts = StepParts(model, optimizer, rate, MEAN, STD, stage_gradients=True)
    state = init_state(model, optimizer, 0, (8, 8, 1), mesh)
    _, metrics = make_train_step(parts, mesh)(state, put_batch(batch(), mesh))
    stages = {key: float(value) for key, value in metrics.items() if "norm/" in key}
    assert {"gradient_norm/stem", "gradient_norm/layer1", "gradient_norm/head"} <= stages.keys()
    total = sum(value**2 for value in stages.values()) ** 0.5
    assert total == pytest.approx(float(metrics["gradient_norm"]), rel=1e-5)


def test_the_state_is_donated(devices: Meshes) -> None:
    model, rate = create_model("tiny", in_channels=1), optax.constant_schedule(0.1)
    optimizer, mesh = optax.sgd(rate, momentum=0.9), devices(1)
    step = make_train_step(StepParts(model, optimizer, rate, MEAN, STD), mesh)
    state = init_state(model, optimizer, 0, (8, 8, 1), mesh)
    step(state, put_batch(batch(), mesh))
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_bfloat16_keeps_state_and_metrics_in_float32() -> None:
    state, metrics = first_step(1, dtype="bfloat16")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.variables)} == {"float32"}
    assert {value.dtype.name for value in metrics.values()} == {"float32"}
    _, exact = first_step(1, norm_group=None)
    np.testing.assert_allclose(metrics["loss"], exact["loss"], rtol=0.05)


@pytest.mark.parametrize("count", [1, 4])
def test_evaluation_sums_count_what_the_mask_marks(devices: Meshes, count: int) -> None:
    model, mesh = create_model("tiny", in_channels=1), devices(count)
    variables = model.init(jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32))
    rows = batch()
    rows["mask"] = np.arange(16) % 3 > 0
    sums = make_eval_step(model, mesh, mean=MEAN, std=STD)(variables, put_batch(rows, mesh))

    logits = np.asarray(model.apply(variables, normalize(rows["image"], MEAN, STD)))
    ranks = (logits >= logits[np.arange(16), rows["label"]][:, None]).sum(-1)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, rows["label"])
    assert sums["count"] == rows["mask"].sum()
    assert sums["top1"] == (ranks == 1)[rows["mask"]].sum()
    assert sums["top5"] == (ranks <= 5)[rows["mask"]].sum()
    np.testing.assert_allclose(sums["loss"], losses[rows["mask"]].sum(), rtol=1e-5)
