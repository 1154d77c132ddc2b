"""The parts of a network: shapes, costs, and that they add up to the whole."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import traverse_util

from flax_resnet import ResNet, create_model, summarize
from flax_resnet.models import count_macs, count_parameters, variable_shapes

SMALL = dict(stage_sizes=(1, 2), widths=(32, 32), num_classes=3, image_size=32)
MODELS = {
    "resnet": ResNet(**SMALL),
    "scanned": ResNet(**SMALL | dict(stage_sizes=(3, 1)), scan_blocks=True),
    "pre": ResNet(**SMALL, order="pre", head_name="head.fc"),
    "deep": ResNet(**SMALL, stem="deep", stem_pool="conv", block="bottleneck", gate="se"),
    "frn": ResNet(**SMALL, norm="frn", middle="split_attention", radix=2),
    "dense": create_model("densenet121", stage_sizes=(1, 2)),
}
summary = functools.cache(summarize)
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


@every_model
def test_the_parts_add_up_to_the_whole(model: Any) -> None:
    rows = summary(model)
    assert sum(row.parameters for row in rows) == count_parameters(model)
    assert sum(row.macs for row in rows) == count_macs(model)


@every_model
def test_the_parts_are_the_stem_the_stages_and_the_head(model: Any) -> None:
    stages = [f"layer{number}" for number in range(1, len(model.stage_sizes) + 1)]
    rows = summary(model)
    assert [row.name for row in rows] == ["stem", *stages, "head"]
    assert all(row.parameters > 0 and row.macs > 0 and row.activations > 0 for row in rows)


@every_model
def test_shapes_are_those_of_the_maps_and_the_logits(model: Any) -> None:
    x = jnp.zeros((1, 48, 48, 3))
    shapes = variable_shapes(model)
    maps = jax.eval_shape(lambda v: model.apply(v, x, method="features"), shapes)
    *rows, head = summarize(model, 48)
    assert {row.name: (1, *row.shape) for row in rows} == {k: v.shape for k, v in maps.items()}
    assert head.shape == (model.num_classes,)


@pytest.mark.parametrize("order", ["post", "pre"])
def test_costs_of_a_scanned_network_are_those_of_the_plain_one(order: str) -> None:
    plain = ResNet((3, 1), (8, 8), order=order, num_classes=3, stem="cifar", image_size=8)
    scanned = plain.clone(scan_blocks=True)
    assert variable_shapes(scanned) != variable_shapes(plain)
    assert count_macs(scanned) == count_macs(plain)
    assert count_parameters(scanned) == count_parameters(plain)
    assert summary(scanned) == summary(plain)


def test_the_network_for_mnist_is_summarized_by_hand() -> None:
    stem, layer, head = summarize(create_model("mnist_resnet"))
    maps = 28 * 28 * 32
    assert (stem.macs, layer.macs, head.macs) == (9 * maps, 4 * 9 * 32 * maps, maps * 10)
    assert (stem.activations, layer.activations) == (4 * maps, 4 * 4 * maps)
    assert head.activations == 4 * 10
    assert (stem.shape, layer.shape, head.shape) == ((28, 28, 32), (28, 28, 32), (10,))


def test_activations_except_the_heads_take_half_the_bytes_in_half_precision() -> None:
    *wide, head = summarize(MODELS["resnet"])
    *narrow, narrow_head = summarize(MODELS["resnet"].clone(dtype=jnp.bfloat16))
    assert [row.activations for row in wide] == [2 * row.activations for row in narrow]
    assert head == narrow_head


def test_groups_reduce_parameters_and_multiply_adds() -> None:
    """Only the middle convolution is grouped; its kernels see a quarter of the channels."""
    plain = ResNet(**SMALL, block="bottleneck")
    middles = {
        path: math.prod(leaf.shape)
        for path, leaf in traverse_util.flatten_dict(variable_shapes(plain)["params"]).items()
        if path[-2:] == ("conv2", "kernel")
    }
    saved = sum(middles.values()) * 3 // 4
    grouped = plain.clone(cardinality=4, base_width=16)
    assert count_parameters(plain) - count_parameters(grouped) == saved
    assert count_macs(grouped) < count_macs(plain)


@pytest.mark.parametrize(
    ("name", "channels"),
    [("resnet50", (64, 256, 512, 1024, 2048)), ("resnet18", (64, 64, 128, 256, 512))],
)
def test_feature_shapes_at_224_pixels(name: str, channels: tuple[int, ...]) -> None:
    model = create_model(name)
    maps = jax.eval_shape(
        lambda variables, x: model.apply(variables, x, method="features"),
        variable_shapes(model),
        jax.ShapeDtypeStruct((2, 224, 224, 3), jnp.float32),
    )
    names = ("stem", "layer1", "layer2", "layer3", "layer4")
    expected = {
        name: (2, side, side, channel)
        for name, side, channel in zip(names, (112, 56, 28, 14, 7), channels, strict=True)
    }
    assert {name: value.shape for name, value in maps.items()} == expected
