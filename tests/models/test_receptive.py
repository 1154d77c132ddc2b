"""Receptive fields: known values, and fields measured by changing one row at a time."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from flax_resnet import DenseNet, ResNet, create_model, summarize
from flax_resnet.models import UNet, variable_shapes
from flax_resnet.models.receptive import Field, receptive_fields


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("resnet18", {"stem": (7, 2), "layer1": (43, 4), "layer4": (435, 32)}),
        pytest.param(
            "resnet50",
            {"stem": (7, 2), "layer1": (35, 4), "layer4": (427, 32)},
            marks=pytest.mark.slow,
        ),
        ("cifar_resnet20", {"stem": (3, 1), "layer1": (15, 1), "layer3": (81, 4)}),
    ],
)
def test_known_networks_have_their_known_fields(
    name: str, fields: dict[str, tuple[int, int]]
) -> None:
    rows = {row.name: (row.receptive_field, row.stride) for row in summarize(create_model(name))}
    assert {part: rows[part] for part in fields} == fields
    assert rows["head"] == (None, None)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_the_field_of_a_plain_network_is_counted_by_hand(depth: int) -> None:
    model = ResNet((depth, depth), (2, 2), stem="cifar", shortcut="none", image_size=64)
    stem, first, second, _ = summarize(model)
    assert (stem.receptive_field, stem.stride) == (3, 1)
    assert (first.receptive_field, first.stride) == (3 + 2 * 2 * depth, 1)
    strided = first.receptive_field + 2
    assert (second.receptive_field, second.stride) == (strided + 4 * (2 * depth - 1), 2)


def test_fields_do_not_depend_on_the_size_of_the_images() -> None:
    model = ResNet((1, 1), (2, 2), num_classes=2)
    fields = [[(r.receptive_field, r.stride) for r in summarize(model, s)] for s in (32, 65, 224)]
    assert fields[0] == fields[1] == fields[2]


def test_any_function_of_images_has_fields() -> None:
    def function(x: jax.Array) -> dict[str, jax.Array]:
        shifted = jnp.pad(x, ((0, 0), (2, 0), (0, 0), (0, 0)))[:, :-2]
        return {
            "same": jnp.tanh(x),
            "sum": x + shifted,
            "every third": x[:, ::3],
            "mean": x - x.mean((1, 2), keepdims=True),
            "pooled": x.mean((1, 2)),
        }

    fields = receptive_fields(function, jnp.ones((1, 9, 9, 1)))
    assert fields == {
        "same": Field(1, 1),
        "sum": Field(3, 1),
        "every third": Field(1, 3),
        "mean": Field(1, 1),  # by convention; means depend on everything
    }


slow, exhaustive = pytest.mark.slow, pytest.mark.exhaustive
# Layers that weight channels by means of whole maps: with kernels of zeros, weights are constant.
GATES = ("fc2", "fc_select", "se")
POOLED = dict(stage_sizes=(1, 1), widths=(4, 4), num_classes=2)
CIFAR = dict(POOLED, stem="cifar")
NETWORKS = {
    "7x7 stem and max pooling": ResNet(**POOLED),
    "dilated kernels": ResNet(**CIFAR | dict(widths=(8, 8)), middle="selective_kernel"),
    "scales": ResNet(**CIFAR, block="bottleneck", middle="scales", scale=4, base_width=64),
    "pre, averaging": ResNet(**CIFAR, order="pre", shortcut="average", anti_alias="average"),
    "dense": DenseNet((2, 2), 4, stem="cifar", num_classes=2),
    "anti-aliased by blurring": ResNet(**POOLED, anti_alias="blur", stem_pool="blur"),
    "deep stem": ResNet(**POOLED | dict(widths=(8, 8)), stem="deep", stem_pool="average"),
    "tiered stem": ResNet(**POOLED | dict(widths=(8, 8)), stem="tiered", stem_pool="conv"),
    "bottleneck": ResNet(**POOLED, block="bottleneck", stem_pool="max_zeros"),
    "option A": ResNet(**CIFAR, shortcut="zero_pad"),
    "3x3 shortcut": ResNet(**CIFAR, shortcut="projection_3x3"),
    "plain": ResNet(**CIFAR, shortcut="none"),
    "squeeze and excite": ResNet(**CIFAR, gate="se"),
    "efficient attention": ResNet(**CIFAR, gate="eca"),
    "split attention": ResNet(
        **CIFAR | dict(widths=(8, 8)),
        block="bottleneck",
        middle="split_attention",
        radix=2,
        anti_alias="average_3x3",
    ),
    "split attention, averaged first": ResNet(
        **CIFAR | dict(widths=(8, 8)),
        block="bottleneck",
        middle="split_attention",
        anti_alias="average_3x3_first",
    ),
    "7x7 stem of a dense network": DenseNet((1, 1), 4, bottleneck=2, num_classes=2),
}
MARKS = {"dense": (), "7x7 stem and max pooling": slow, "dilated kernels": slow}
cases = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=MARKS.get(name, exhaustive)) for name in NETWORKS]
)


def positive_variables(model: Any) -> Any:
    """Return averaging kernels, and norms that are the identity."""
    leaves = traverse_util.flatten_dict(variable_shapes(model))
    for path, leaf in leaves.items():
        value = (
            1 / np.prod(leaf.shape[:-1]) if path[-1] == "kernel" else path[-1] in ("scale", "var")
        )
        if path[-1] == "kernel" and set(path) & set(GATES):
            value = 0
        leaves[path] = jnp.full(leaf.shape, float(value))
    return traverse_util.unflatten_dict(leaves)


def seen(maps: Any, rows: range) -> np.ndarray:
    """Return which images, each changed in one row, change these rows of the maps."""
    units = np.stack([maps[:, row, maps.shape[2] // 2].sum(-1) for row in rows])
    return np.abs(units[:, 1:] - units[:, :1]) > 1e-9


@pytest.mark.usefixtures("x64")
@cases
def test_a_unit_depends_on_a_square_of_exactly_the_fields_side(name: str) -> None:
    model = NETWORKS[name].clone(dtype=jnp.float64)
    *parts, _ = summarize(model)
    side = max(part.receptive_field for part in parts)
    size = (side + 4 * parts[-1].stride) // 8 * 8 + 8
    changed = np.repeat(np.eye(size)[:, :, None], size, axis=2)  # image k has row k changed
    images = np.concatenate([np.zeros((1, size, size)), changed, changed.swapaxes(1, 2)])
    images = jnp.asarray(1 + 1000 * np.repeat(images[..., None], 3, axis=-1))
    features = jax.jit(lambda variables, x: model.apply(variables, x, method="features"))
    maps = features(positive_variables(model), images)
    for part in parts:
        center = maps[part.name].shape[1] // 2
        first, second = seen(np.asarray(maps[part.name]), range(center, center + 2))
        rows, columns = np.flatnonzero(first[:size]), np.flatnonzero(first[size:])
        assert len(rows) == len(columns) == part.receptive_field, part.name
        assert rows[-1] - rows[0] + 1 == part.receptive_field, part.name
        np.testing.assert_array_equal(np.flatnonzero(second[:size]), rows + part.stride)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("up", ["transposed", pytest.param("bilinear", marks=exhaustive)])
def test_after_an_upsampling_the_field_is_the_largest_of_all_pixels(up: str) -> None:
    model = UNet(1, 2, up=up, norm="none", in_channels=1, dtype=jnp.float64)
    parts = summarize(model)
    size = 72
    changed = np.repeat(np.eye(size)[:, :, None], 8, axis=2)  # image k has row k changed
    images = 1 + 1000 * np.concatenate([np.zeros((1, size, 8)), changed])[..., None]
    variables = positive_variables(model)
    features = jax.jit(lambda variables, x: model.apply(variables, x, method="features"))
    maps = {**features(variables, images), "head": jax.jit(model.apply)(variables, images)}
    for part in parts:
        center = maps[part.name].shape[1] // 2
        units = seen(np.asarray(maps[part.name]), range(center, center + 4))
        assert units.sum(1).max() == part.receptive_field, part.name
