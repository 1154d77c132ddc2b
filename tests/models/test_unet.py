"""The U-Net: published sizes, both kinds of padding, and the inputs of the decoder."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from flax_resnet import InputError, create_model, from_torch, summarize, to_torch
from flax_resnet.models import UNet, count_macs, count_parameters, variable_shapes
from flax_resnet.models.unet import valid_size
from flax_resnet.models.variables import part_of

PAPER = create_model("unet_valid")
TINY = UNet(base_width=2, depth=2, num_classes=3, image_size=16)


def random_variables(model: Any) -> Any:
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.uniform(0.1, 0.5, leaf.shape).astype(np.float32), variable_shapes(model)
    )


def images_of(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1).standard_normal(shape), jnp.float32)


@functools.partial(jax.jit, static_argnums=0, static_argnames="method")
def apply(model: UNet, variables: Any, images: jax.Array, method: str = "__call__") -> Any:
    return model.apply(variables, images, method=method)


def shape_of(model: UNet, size: int) -> tuple[int, ...]:
    images = jax.ShapeDtypeStruct((1, size, size, model.in_channels), jnp.float32)
    return jax.eval_shape(model.apply, variable_shapes(model), images).shape


@pytest.mark.parametrize(
    ("in_channels", "num_classes", "count"),
    [(1, 2, 31_030_658), (1, 1, 31_030_593), (3, 1, 31_031_745), (3, 2, 31_031_810)],
)
def test_the_papers_form_has_its_known_parameters(
    in_channels: int, num_classes: int, count: int
) -> None:
    model = PAPER.clone(in_channels=in_channels, num_classes=num_classes)
    assert count_parameters(model) == count


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        ({}, 31_043_521),
        ({"biased": False, "num_classes": 2}, 31_037_698),
        ({"biased": False, "num_classes": 2, "up": "bilinear"}, 17_263_042),
        ({"biased": False, "in_channels": 1}, 31_036_481),
    ],
)
def test_widely_used_forms_have_their_known_parameters(
    arguments: dict[str, Any], count: int
) -> None:
    assert count_parameters(create_model("unet", **arguments)) == count


def test_multiply_adds_of_both_paddings() -> None:
    assert count_macs(PAPER) == 150_428_424_448
    assert count_macs(PAPER.clone(padding="same", image_size=256)) == 48_096_083_968


def test_the_paper_turns_572_pixels_into_388() -> None:
    assert shape_of(PAPER, 572) == (1, 388, 388, 2)
    assert shape_of(PAPER.clone(padding="same"), 572) == (1, 572, 572, 2)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_the_valid_sizes_have_logits_of_the_computed_size(depth: int) -> None:
    model = UNet(base_width=1, depth=depth, padding="valid", norm="none")
    sizes = {size: valid_size(size, depth) for size in range(1, 230)}
    known = [size for size, found in sizes.items() if found]
    for size in known[:2]:
        assert shape_of(model.clone(image_size=size), size)[1] == sizes[size]
    assert {second - first for first, second in itertools.pairwise(known)} == {2**depth}


def test_another_size_is_an_error_that_names_the_next() -> None:
    with pytest.raises(InputError, match=r"height of 570, .*the next size that can is 572"):
        shape_of(PAPER, 570)


def test_valid_padding_uses_no_pixels_outside_of_the_images() -> None:
    """Away from the borders, the results of both paddings are equal."""
    valid = UNet(base_width=2, depth=1, num_classes=3, norm="none", padding="valid")
    variables, images = random_variables(valid), images_of(1, 24, 24, 3)
    found = np.asarray(apply(valid, variables, images))
    same = np.asarray(apply(valid.clone(padding="same"), variables, images))
    assert found.shape == (1, 8, 8, 3)
    np.testing.assert_allclose(found, same[:, 8:16, 8:16], rtol=1e-4)


@pytest.mark.parametrize(
    ("size", "up"), [((13, 18), "transposed"), ((1, 3), "transposed"), ((13, 18), "bilinear")]
)
def test_same_padding_gives_logits_for_every_pixel(size: tuple[int, int], up: str) -> None:
    model = TINY.clone(up=up)
    logits = apply(model, random_variables(model), images_of(2, *size, 3))
    assert logits.shape == (2, *size, 3)


def test_an_odd_size_is_padded_by_mirroring() -> None:
    variables, images = random_variables(TINY), images_of(1, 14, 15, 3)
    mirrored = jnp.concatenate([images, images[:, :, 14:]], axis=2)
    mirrored = jnp.concatenate([mirrored, mirrored[:, 13:11:-1]], axis=1)
    found, expected = apply(TINY, variables, images), apply(TINY, variables, mirrored)
    np.testing.assert_allclose(found, expected[:, :14, :15], rtol=1e-5)


@pytest.mark.parametrize("up", ["transposed", "bilinear"])
def test_the_maps_of_every_level_have_names(up: str) -> None:
    model = UNet(base_width=4, depth=3, up=up)
    maps = jax.eval_shape(
        lambda v, x: model.apply(v, x, method="features"),
        variable_shapes(model),
        jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32),
    )
    half = 2 if up == "bilinear" else 1
    assert {name: value.shape[1:] for name, value in maps.items()} == {
        "layer1": (32, 32, 4),
        "layer2": (16, 16, 8),
        "layer3": (8, 8, 16),
        "bottleneck": (4, 4, 32 // half),
        "decoder3": (8, 8, 16 // half),
        "decoder2": (16, 16, 8 // half),
        "decoder1": (32, 32, 4),
    }


def test_a_skip_connection_reaches_the_decoder_of_its_own_level() -> None:
    """With upsamplings of zeros, the decoder depends only on the skip connections."""
    variables = random_variables(TINY)
    for level in (1, 2):
        for name in ("kernel", "bias"):
            variables["params"][f"up{level}"][name][:] = 0
    before = jax.device_get(apply(TINY, variables, images_of(1, 8, 8, 3), method="features"))
    variables["params"]["enc2"]["0"]["bias"][:] += 1
    after = apply(TINY, variables, images_of(1, 8, 8, 3), method="features")
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {"layer2", "bottleneck", "decoder2"}


def test_without_classes_the_last_maps_are_returned() -> None:
    model = TINY.clone(num_classes=0)
    variables, images = random_variables(model), images_of(1, 8, 8, 3)
    maps = apply(model, variables, images, method="features")
    np.testing.assert_array_equal(apply(model, variables, images), maps["decoder1"])


def test_dropout_is_applied_to_the_bottleneck_in_training_only() -> None:
    model = TINY.clone(dropout=0.9, norm="none")
    variables, images = random_variables(model), images_of(1, 16, 16, 3)
    plain = apply(TINY.clone(norm="none"), variables, images, method="features")
    kept = apply(model, variables, images, method="features")
    np.testing.assert_array_equal(kept["bottleneck"], plain["bottleneck"])
    rngs = {"dropout": jax.random.key(0)}
    train = functools.partial(model.apply, train=True, rngs=rngs, method="features")
    dropped = jax.jit(train)(variables, images)
    assert 0 < np.mean(np.asarray(dropped["bottleneck"]) == 0) < 1
    np.testing.assert_array_equal(dropped["layer2"], plain["layer2"])


def test_parts_are_levels_and_add_up() -> None:
    rows = summarize(TINY)
    names = ["layer1", "layer2", "bottleneck", "decoder2", "decoder1", "head"]
    assert [row.name for row in rows] == names
    assert sum(row.parameters for row in rows) == count_parameters(TINY)
    assert sum(row.macs for row in rows) == count_macs(TINY)
    found = {part_of(path) for path in traverse_util.flatten_dict(variable_shapes(TINY)["params"])}
    assert found == set(names)


def test_frozen_parts_keep_their_statistics() -> None:
    model = TINY.clone(frozen="layer.*|bottleneck")
    variables = random_variables(model)
    train = jax.jit(functools.partial(model.apply, train=True, mutable=["batch_stats"]))
    _, new = train(variables, images_of(2, 8, 8, 3))
    old = traverse_util.flatten_dict(variables["batch_stats"])
    for path, leaf in traverse_util.flatten_dict(new["batch_stats"]).items():
        assert np.array_equal(leaf, old[path]) != path[0].startswith("dec"), path


@pytest.mark.parametrize("arguments", [{}, {"up": "bilinear", "biased": False}, {"norm": "none"}])
def test_torch_weights_survive_both_conversions(arguments: dict[str, Any]) -> None:
    model = TINY.clone(**arguments)
    variables = random_variables(model)
    state_dict = to_torch(model, variables)
    back = from_torch(model, state_dict)
    jax.tree.map(np.testing.assert_array_equal, back, variables)
    if not arguments:
        assert state_dict["up2.weight"].shape == (8, 4, 2, 2)  # as torch: (inputs, outputs, 2, 2)


def test_half_precision_gives_logits_in_float32() -> None:
    model = TINY.clone(dtype=jnp.bfloat16)
    logits = jax.eval_shape(model.apply, random_variables(model), images_of(1, 8, 8, 3))
    assert logits.dtype == jnp.float32


@pytest.mark.parametrize(
    ("field", "found", "near"),
    [("up", "transpose", "transposed"), ("padding", "save", "same"), ("norm", "grup", "group")],
)
def test_an_unknown_choice_is_an_error(field: str, found: str, near: str) -> None:
    with pytest.raises(InputError, match=f"^{field} is '{found}'.*{near}"):
        create_model("unet", **{field: found})


def test_a_network_that_never_halves_is_an_error() -> None:
    with pytest.raises(InputError, match=r"^depth is 0; expected 1 or more"):
        create_model("unet", depth=0)
