"""The feature pyramid: shapes for several networks, and a small example by hand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet import InputError, create_model
from flax_resnet.models import FeaturePyramid, variable_shapes
from flax_resnet.models.fpn import doubled


@pytest.mark.parametrize(
    ("name", "size", "sides"),
    [
        ("resnet18", 224, (56, 28, 14, 7)),
        ("resnet18", 100, (25, 13, 7, 4)),
        ("densenet121", 100, (25, 12, 6, 3)),  # transitions round down
    ],
)
def test_every_level_has_the_size_of_its_map(name: str, size: int, sides: tuple[int, ...]) -> None:
    model, pyramid = create_model(name, stage_sizes=(1, 1, 1, 1)), FeaturePyramid(8)

    def run(variables: Any, images: jax.Array) -> Any:
        maps = model.apply(variables, images, method="features")
        return pyramid.init_with_output(jax.random.key(0), maps)[0]

    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    found = jax.eval_shape(run, variable_shapes(model), images)
    expected = {f"p{k}": (1, side, side, 8) for k, side in enumerate(sides, 2)}
    assert {key: value.shape for key, value in found.items()} == expected


def test_a_level_is_the_sum_of_its_map_and_the_upsampled_level_above() -> None:
    maps = {"large": np.arange(6.0).reshape(1, 2, 3, 1), "small": np.array([[[[10.0], [20.0]]]])}
    pyramid = FeaturePyramid(1, ("large", "small"), first=3)
    shapes = jax.eval_shape(lambda: pyramid.init(jax.random.key(0), maps))["params"]
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes)
    assert set(params) == {"lateral3", "lateral4", "output3", "output4"}
    params["lateral3"]["kernel"][:] = 2
    params["lateral4"]["kernel"][:] = 1
    params["lateral4"]["bias"][:] = 100
    for name in ("output3", "output4"):
        params[name]["kernel"][1, 1] = 1  # the identity
    found = pyramid.apply({"params": params}, maps)
    assert list(found) == ["p3", "p4"]
    np.testing.assert_array_equal(found["p4"][0, :, :, 0], [[110, 120]])
    expected = [[110, 112, 124], [116, 118, 130]]  # 2 * large + doubled small
    np.testing.assert_array_equal(found["p3"][0, :, :, 0], expected)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(3, [1, 1, 2]), (4, [1, 1, 2, 2]), (5, [1, 1, 2, 2, 2]), (1, [1])],
)
def test_odd_sizes_crop_or_repeat_the_end(size: int, expected: list[int]) -> None:
    x = jnp.array([1.0, 2.0])
    np.testing.assert_array_equal(doubled(x[None, :, None, None], size, 1)[0, :, 0, 0], expected)
    np.testing.assert_array_equal(doubled(x[None, None, :, None], 1, size)[0, 0, :, 0], expected)


def test_a_level_without_a_map_is_an_error() -> None:
    maps = {"layer1": jnp.ones((1, 2, 2, 3))}
    with pytest.raises(InputError, match=r"level is 'layer2'; expected one of layer1"):
        FeaturePyramid(4, ("layer1", "layer2")).init(jax.random.key(0), maps)


def test_half_precision_is_kept() -> None:
    maps = {"layer1": jnp.ones((1, 2, 2, 3))}
    pyramid = FeaturePyramid(4, ("layer1",), dtype=jnp.bfloat16)
    found, variables = jax.eval_shape(pyramid.init_with_output, jax.random.key(0), maps)
    assert found["p2"].dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
