"""Optimisers agree with torch's, step by step in float64."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flax_resnet.errors import InputError
from flax_resnet.training.config import OptimizerConfig
from flax_resnet.training.updates.optimizers import begin_at, decay_mask, make_optimizer

STEPS = 10
GOLDENS = Path(__file__).parents[2] / "goldens" / "optim.npz"
SETTINGS = {
    "sgd_momentum": (OptimizerConfig(name="sgd", weight_decay=1e-2), 0.1),
    "sgd_nesterov": (OptimizerConfig(name="sgd", weight_decay=1e-2, nesterov=True), 0.1),
    "adamw": (OptimizerConfig(name="adamw", weight_decay=0.05), 1e-2),
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


def test_the_mask_counts_what_the_published_recipes_decay() -> None:
    from flax_resnet.models import create_model, variable_shapes

    params = variable_shapes(create_model("resnet18"))["params"]
    mask = decay_mask(params)
    sizes = jax.tree.map(lambda leaf, kept: leaf.size if kept else 0, params, mask)
    assert sum(jax.tree.leaves(sizes)) == 11_678_912
    assert sum(jax.tree.leaves(mask)) == 21


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match="sgd"):
        make_optimizer(OptimizerConfig(name="sdg"), optax.constant_schedule(1.0))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_schedule_of_a_new_optimizer_can_begin_where_another_one_left_off(name: str) -> None:
    params = {"w": jnp.ones(3)}
    config = OptimizerConfig(name=name, weight_decay=0.0)
    rates = lambda start: jax.tree.leaves(  # noqa: E731
        optimizer.update(params, begin_at(optimizer.init(params), jnp.int32(start)), params)[0]
    )[0]
    optimizer = make_optimizer(config, lambda step: jnp.where(step < 5, 1.0, 0.1))
    np.testing.assert_allclose(rates(5), 0.1 * rates(0), rtol=1e-6)
