"""Updates that are not finite: skipped, counted, and fixed by a smaller loss scale."""

import functools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flax_resnet.errors import InputError
from flax_resnet.models import create_model
from flax_resnet.steps.mesh import data_mesh, put_batch
from flax_resnet.steps.state import TrainState, init_state
from flax_resnet.steps.step import StepParts, make_train_step, update
from flax_resnet.steps.tasks.classification import classification_loss
from flax_resnet.steps.tasks.segmentation import segmentation_loss
from flax_resnet.steps.updates.guard import GROWTH_INTERVAL, Guard, check_loss_scale, check_update

GOOD, LEFT_OUT, BAD = 1.0, 0.0, float("nan")
RATE = optax.linear_schedule(0.2, 0.1, 10)
LOOK: dict[str, Any] = dict(mean=(0.5,), std=(0.25,))
Rows = list[dict[str, float]]
pytestmark = pytest.mark.usefixtures("one_stage")


def factor_loss(logits: jax.Array, batch: dict[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
    loss, accuracy = classification_loss(logits, batch)
    return loss * batch["factor"].mean(), accuracy


@functools.cache
def trainer(dtype: str = "float32", **settings: Any) -> Callable[..., tuple[TrainState, Rows]]:
    """Return `(*factors, **guard) -> (state, metrics)`: a run whose losses have these factors."""
    mesh, model = data_mesh(jax.devices()[:2]), create_model("tiny", in_channels=1, dtype=dtype)
    optimizer = optax.sgd(RATE, 0.9)
    parts = StepParts(model, optimizer, RATE, loss=factor_loss, **LOOK, **settings)
    step = make_train_step(parts, mesh)
    first = jax.device_get(init_state(model, optimizer, 0, (8, 8, 1), mesh))
    images = np.random.default_rng(0).integers(0, 256, (16, 8, 8, 1), np.uint8)

    def run(*factors: float, **guard: Any) -> tuple[TrainState, Rows]:
        state, metrics = first.replace(guard=Guard(**guard)), []
        for number, factor in enumerate(factors):
            rows = {
                "image": np.roll(images, number, axis=1),
                "label": np.arange(16, dtype=np.int32) % 10,
                "factor": np.full(16, factor, np.float32),
            }
            if factor != LEFT_OUT:
                state, found = step(state, put_batch(rows, mesh))
                metrics.append(jax.device_get(found))
        return jax.device_get(state), metrics

    return run


def column(metrics: Rows, name: str) -> list[float]:
    return [float(row[name]) for row in metrics]


def numbers(state: TrainState) -> Any:
    return state.variables, state.optimizer


@pytest.mark.parametrize("position", [0, 1, 3])
def test_a_bad_batch_anywhere_leaves_the_state_of_a_run_without_it(position: int) -> None:
    run, factors = trainer(max_nonfinite=1), [GOOD] * 4
    factors[position] = BAD
    state, metrics = run(*factors)
    factors[position] = LEFT_OUT
    chex.assert_trees_all_equal(numbers(state), numbers(run(*factors)[0]))
    assert state.step == 4
    assert np.isnan(metrics[position]["loss"])
    assert column(metrics, "skipped_updates") == [float(n >= position) for n in range(4)]


def test_after_too_many_bad_updates_the_state_stays_as_it_is() -> None:
    run = trainer(max_nonfinite=1)
    before, _ = run(GOOD, GOOD)
    stopped, metrics = run(GOOD, GOOD, BAD, BAD, GOOD, GOOD)
    assert column(metrics, "nonfinite") == [0, 0, 1, 2, 3, 4]
    chex.assert_trees_all_equal(numbers(stopped), numbers(before))
    assert stopped.step == 6


def test_good_updates_in_between_reset_the_count() -> None:
    _, metrics = trainer(max_nonfinite=1)(GOOD, BAD, GOOD, BAD, GOOD)
    assert column(metrics, "nonfinite") == [0, 1, 0, 1, 0]
    assert column(metrics, "skipped_updates") == [0, 1, 1, 2, 2]
    # The schedule counts only the updates that were applied.
    expected = [RATE(number) for number in (0, 1, 1, 2, 2)]
    np.testing.assert_allclose(column(metrics, "learning_rate"), expected, rtol=1e-6)


def test_a_gradient_that_overflows_is_bad_though_the_loss_is_finite() -> None:
    run = trainer(max_nonfinite=1)
    state, (row,) = run(1e30)
    assert np.isfinite(row["loss"])
    assert np.isinf(row["gradient_norm"])
    assert row["nonfinite"] == 1
    chex.assert_trees_all_equal(numbers(state), numbers(run()[0]))


def test_without_a_limit_bad_numbers_enter_the_state() -> None:
    state, metrics = trainer()(BAD, GOOD)
    assert np.isnan(state.variables["params"]["fc"]["kernel"]).all()
    assert column(metrics, "nonfinite") == [1, 2]
    assert column(metrics, "skipped_updates") == [0, 0]


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("applies", [True, False])
def test_an_update_is_applied_as_a_whole_or_not_at_all(platform: str, applies: bool) -> None:
    mesh = SimpleNamespace(devices=np.array([SimpleNamespace(platform=platform)]))
    optimizer, one = optax.sgd(0.5, 0.9), jnp.ones(())
    variables = {"params": one, "batch_stats": one}
    state = TrainState(0, variables, optimizer.init(one))
    found, optimizer_state = update(state, 2 * one, 3 * one, optimizer, jnp.asarray(applies), mesh)
    assert found == ({"params": 0, "batch_stats": 3} if applies else variables)
    assert optimizer_state[0].trace == (2 if applies else 0)


@pytest.mark.slow
def test_a_bad_batch_of_masks_leaves_the_state_of_a_run_without_it() -> None:
    model = create_model("unet", in_channels=1, num_classes=2, base_width=2, depth=1)
    mesh, optimizer = data_mesh(jax.devices()[:1]), optax.sgd(RATE, 0.9)
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 1), np.uint8)
    settings = dict(loss=segmentation_loss, max_nonfinite=1)
    step = make_train_step(StepParts(model, optimizer, RATE, **LOOK, **settings), mesh)

    def run(*weights: float) -> TrainState:
        state = init_state(model, optimizer, 0, (8, 8, 1), mesh)
        for weight in weights:
            rows = {"image": images, "label": (images[..., 0] > 99).astype(np.uint8)}
            rows["weight"] = np.full((2, 8, 8), weight, np.float32)
            state, _ = step(state, put_batch(rows, mesh))
        return jax.device_get(state)

    chex.assert_trees_all_equal(numbers(run(1, BAD, 2)), numbers(run(1, 2)))


def test_a_loss_scale_keeps_small_gradients_of_float16() -> None:
    def first_update(**settings: Any) -> np.ndarray:
        state, _ = trainer(max_nonfinite=1, **settings)(1e-7)
        # The momentum is the gradient itself; adding it to the parameters would round it.
        return 1e7 * state.optimizer[0].trace["layer1"]["0"]["conv1"]["kernel"]

    exact = first_update()
    largest = np.abs(exact).max()
    assert np.abs(first_update(dtype="float16")).max() < 0.01 * largest
    scaled = first_update(dtype="float16", loss_scale="65536")
    np.testing.assert_allclose(scaled, exact, atol=0.2 * largest)  # float16 rounds


def test_overflows_halve_the_dynamic_scale_until_float16_trains() -> None:
    run = trainer(dtype="float16", loss_scale="dynamic", max_nonfinite=0)
    state, metrics = run(*[GOOD] * 20, scale=np.float32(2**24))
    scales = column(metrics, "loss_scale")
    overflows = ~np.isfinite(column(metrics, "gradient_norm"))
    assert overflows[:3].all() and not overflows[-3:].any()
    halved = np.where(overflows, 0.5, 1.0)
    assert scales == list(2.0**24 * np.cumprod([1.0, *halved[:-1]]))
    assert column(metrics, "nonfinite") == [0] * 20  # fixed overflows are no reason to stop
    assert state.guard.skipped == overflows.sum()
    assert metrics[2]["parameter_norm"] == metrics[0]["parameter_norm"]
    assert metrics[-1]["loss"] < metrics[0]["loss"]


def test_overflows_that_no_smaller_scale_can_cure_count() -> None:
    run = trainer(dtype="float16", loss_scale="dynamic", max_nonfinite=0)
    _, metrics = run(1e9, GOOD, scale=np.float32(1))
    assert column(metrics, "nonfinite") == [1, 2]
    _, metrics = run(BAD, GOOD)  # the loss itself is not scaled
    assert column(metrics, "nonfinite") == [1, 2]
    assert column(metrics, "loss_scale") == [2**16, 2**16]


def test_good_updates_in_a_row_double_the_dynamic_scale() -> None:
    guard = Guard(steady=np.int32(GROWTH_INTERVAL - 1))
    applies, guard = check_update(guard, 1.0, 1.0, max_nonfinite=0, loss_scale="dynamic")
    assert applies
    assert (guard.scale, guard.steady) == (2**17, 0)
    _, same = check_update(Guard(steady=np.int32(7)), 1.0, 1.0, max_nonfinite=0, loss_scale="1024")
    assert (same.scale, same.steady) == (2**16, 7)


@pytest.mark.parametrize("text", ["none", "dynamic", "1024", "0.5"])
def test_valid_loss_scales(text: str) -> None:
    check_loss_scale("config.loss_scale", text)


@pytest.mark.parametrize("text", ["dynamc", "", "0", "-1", "inf", "nan"])
def test_invalid_loss_scales_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"config.loss_scale is .*none, dynamic, or a positive"):
        check_loss_scale("config.loss_scale", text)
