"""Paths through a network, and the gradient that they carry."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet import create_model
from flax_resnet.lab import paths


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_paths_of_every_length_are_counted_and_measured(tiny: dict[str, Any]) -> None:
    result = paths.run(paths.Settings(**tiny, depth=14, images=8, draws=2))
    np.testing.assert_allclose(result.count, np.array([1, 4, 6, 4, 1]) / 16)
    assert result.gradient.shape == (1, 2, 5)
    assert np.all(result.gradient > 0)
    np.testing.assert_allclose(paths.carried(result).sum(), 1.0)
    assert "2^4 paths" in paths.finding(result)
    assert len(paths.draw(result).axes) == 3


def test_branches_of_zeros_carry_nothing(init: Any) -> None:
    model = create_model(
        "cifar_resnet20",
        stage_sizes=(2, 2),
        widths=(4, 8),
        order="pre",
        shortcut="projection",
        zero_init_last=True,
        image_size=8,
    )
    images, labels = jax.random.normal(jax.random.key(0), (2, 8, 8, 3)), jnp.asarray([0, 1])
    variables = init(model, images)
    assert paths.equal_blocks(model) == [0, 1, 3]
    measure = paths.path_gradient(model, images, labels)
    assert measure(variables, jnp.asarray([False] * 3)) > 0
    for block in range(3):
        assert measure(variables, jnp.arange(3) == block) == 0


def test_gradients_whose_squares_vanish_are_measured(init: Any) -> None:
    model = create_model(
        "cifar_resnet20", stage_sizes=(1,), widths=(4,), order="pre", num_classes=2, image_size=8
    )
    images, labels = jax.random.normal(jax.random.key(0), (2, 8, 8, 3)), jnp.asarray([0, 1])
    variables = init(model, images)
    measure, around = paths.path_gradient(model, images, labels), jnp.asarray([False])
    norm = measure(variables, around)
    head = variables["params"]["linear"]
    small = jax.tree.map(jnp.array, variables)
    small["params"]["linear"] = {"kernel": 1e-25 * head["kernel"], "bias": head["bias"]}
    # With tiny logits both classes are equally likely, as they nearly were before.
    ratio = measure(small, around) / norm
    assert 1e-26 < ratio < 1e-24
