"""Loss surfaces along filter-normalized directions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet.lab import landscape


def test_filters_of_a_direction_have_the_norms_of_the_filters() -> None:
    params = {"kernel": jnp.arange(24.0).reshape(2, 3, 4), "bias": jnp.ones(4)}
    direction = landscape.filter_normalized(params, seed=0)
    norms = [np.linalg.norm(tree["kernel"].reshape(-1, 4), axis=0) for tree in (params, direction)]
    np.testing.assert_allclose(*norms, rtol=1e-5)
    assert not direction["bias"].any()
    other = landscape.filter_normalized(params, seed=1)
    assert not np.allclose(direction["kernel"], other["kernel"])


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_the_middle_of_every_surface_is_the_network(tiny: dict[str, Any]) -> None:
    settings = landscape.Settings(**tiny, depth=8, images=8, points=3, lines=2)
    result = landscape.run(settings)
    assert result.plane.shape == (2, 3, 3)
    assert result.line.shape == (2, 2, 13)
    for kind in range(2):
        np.testing.assert_allclose(result.line[kind, :, 6], result.plane[kind, 1, 1], rtol=1e-5)
    assert "plain-8" in landscape.finding(result)
    assert len(landscape.draw(result).axes) == 4  # two planes, the lines, the color bar


def test_flatness_is_the_distance_to_a_rise_of_one() -> None:
    places = np.linspace(-2, 2, 41)
    assert landscape.flatness(places[None] ** 2, places) == pytest.approx(1.1)  # the next point
    assert landscape.flatness(0 * places[None], places) == pytest.approx(2.0)  # the end
    broken = np.where(np.abs(places) > 0.5, np.nan, 0.0)
    assert landscape.flatness(broken[None], places) == pytest.approx(0.6)


def test_losses_follow_both_directions() -> None:
    class Sum:
        def apply(self, variables: Any, images: jax.Array) -> jax.Array:
            return jnp.stack([variables["params"]["w"] * images, 0 * images], -1)

    losses = landscape.losses_along(
        Sum(),  # type: ignore[arg-type]
        {"params": {"w": jnp.asarray(1.0)}},
        jnp.ones(1),
        jnp.zeros(1, int),
    )
    first, second = {"w": jnp.asarray(1.0)}, {"w": jnp.asarray(10.0)}
    found = losses(first, second, np.array([0.0, 1.0]), np.array([0.0, 0.1]))
    np.testing.assert_allclose(found, np.log1p(np.exp(-np.array([1.0, 3.0]))), rtol=1e-5)
