"""Highway networks: what a layer computes, its initialization and its size."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet import InputError, create_model, from_torch, summarize, to_torch
from flax_resnet.models import Highway, count_macs, count_parameters, variable_shapes
from flax_resnet.models.design import Layers
from flax_resnet.models.highway import HighwayLayer

DENSE = Highway((2,), (6,), in_channels=1, image_size=4, num_classes=3)
CONV = Highway((2, 1), (4, 6), "conv", num_classes=3, image_size=8)
MODELS = {"dense": DENSE, "conv": CONV, "plain": CONV.clone(shortcut="none")}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def random_variables(model: Any) -> Any:
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), variable_shapes(model)
    )


def images_for(model: Any, count: int = 2) -> jax.Array:
    shape = (count, model.image_size, model.image_size, model.in_channels)
    return jnp.asarray(np.random.default_rng(1).standard_normal(shape), jnp.float32)


apply = jax.jit(lambda model, *args: model.apply(*args), static_argnums=0)


def test_a_dense_network_equals_matrix_products_and_gates() -> None:
    variables, images = random_variables(DENSE), images_for(DENSE)
    params = jax.tree.map(lambda leaf: np.squeeze(leaf), variables["params"])

    def affine(x: np.ndarray, layer: Any) -> np.ndarray:
        return x @ layer["kernel"] + layer["bias"][None]

    x = np.maximum(affine(np.asarray(images).reshape(2, -1), params["stem"]), 0)
    for number in ("0", "1"):
        layer = params["layer1"][number]
        gate = 1 / (1 + np.exp(-affine(x, layer["transform"])))
        x = np.maximum(affine(x, layer["branch"]), 0) * gate + x * (1 - gate)
    expected = affine(x, params["fc"])
    np.testing.assert_allclose(apply(DENSE, variables, images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("carry_bias", "size"), [(-1.0, 1), (-4.0, 3)])
def test_a_layer_starts_with_a_gate_given_by_its_bias(
    carry_bias: float, size: int, init: Any
) -> None:
    layers = Layers(norm="none")
    gated, plain = (HighwayLayer(4, size, word, carry_bias, layers) for word in ("gated", "none"))
    x = images_for(Highway((1,), (4,), in_channels=4, image_size=5))
    variables = init(gated, x)
    share = 1 / (1 + np.exp(-carry_bias))
    branch = {"params": {"branch": variables["params"]["branch"]}}
    expected = apply(plain, branch, x) * share + x * (1 - share)
    np.testing.assert_allclose(apply(gated, variables, x), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("width", [5, 50])
def test_a_dense_layer_has_two_matrices_and_two_biases(width: int) -> None:
    counts = [count_parameters(DENSE.clone(stage_sizes=(k,), widths=(width,))) for k in (1, 2)]
    assert counts[1] - counts[0] == 2 * (width**2 + width)
    plain = DENSE.clone(widths=(width,), shortcut="none")
    gated = DENSE.clone(widths=(width,))
    assert count_parameters(gated) - count_parameters(plain) == 2 * (width**2 + width)


@pytest.mark.parametrize("depth", [10, pytest.param(50, marks=pytest.mark.slow)])
def test_thin_networks_are_counted_by_hand(depth: int) -> None:
    model = create_model(f"highway{depth}")
    hidden = (depth - 1) * 2 * (50 * 50 + 50)
    assert count_parameters(model) == (784 * 50 + 50) + hidden + (50 * 10 + 10)
    assert count_macs(model) == 784 * 50 + (depth - 1) * 2 * 50 * 50 + 50 * 10


def test_the_convolutional_network_is_counted_by_hand() -> None:
    def conv(inputs: int, outputs: int) -> int:
        return 9 * inputs * outputs + outputs

    model = create_model("highway_conv19")
    gated = 2 * (5 * conv(48, 48) + 5 * conv(80, 80) + 5 * conv(128, 128))
    changing = conv(3, 48) + conv(48, 80) + conv(80, 128)
    assert count_parameters(model) == gated + changing + 128 * 10 + 10


def test_a_layer_that_changes_the_channels_has_no_gate() -> None:
    params = variable_shapes(CONV)["params"]
    assert set(params["layer1"]["0"]) == {"branch", "transform"}
    assert set(params["layer2"]["0"]) == {"branch"}


def test_maps_are_halved_between_the_stages() -> None:
    for model, sides in ((CONV, (9, 9, 4)), (CONV.clone(image_size=8), (8, 8, 4))):
        size = sides[0]
        maps = jax.eval_shape(
            functools.partial(model.apply, method="features"),
            variable_shapes(model),
            jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32),
        )
        assert [maps[name].shape[1] for name in ("stem", "layer1", "layer2")] == list(sides)


@every_model
def test_the_parts_add_up_to_the_whole(model: Highway) -> None:
    rows = summarize(model)
    stages = [f"layer{number}" for number in range(1, len(model.stage_sizes) + 1)]
    assert [row.name for row in rows] == ["stem", *stages, "head"]
    assert sum(row.parameters for row in rows) == count_parameters(model)
    assert sum(row.macs for row in rows) == count_macs(model)


@every_model
def test_every_parameter_has_a_gradient(model: Highway) -> None:
    variables, images = random_variables(model), images_for(model, 8)
    gradients = jax.jit(jax.grad(lambda v: (model.apply(v, images, train=True) ** 2).mean()))
    for leaf in jax.tree.leaves(gradients(variables)):
        assert np.isfinite(leaf).all() and np.asarray(leaf).any()


@every_model
def test_torch_weights_survive_both_conversions(model: Highway) -> None:
    variables = random_variables(model)
    back = from_torch(model, to_torch(model, variables))
    jax.tree.map(np.testing.assert_array_equal, back, variables)


def test_a_dense_network_accepts_only_its_own_size() -> None:
    with pytest.raises(InputError, match="made for 4x4"):
        DENSE.apply(random_variables(DENSE), jnp.ones((1, 5, 5, 1)))
    logits = jax.eval_shape(CONV.apply, random_variables(CONV), jnp.ones((1, 5, 7, 3)))
    assert logits.shape == (1, 3)


def test_weights_for_another_size_are_an_error() -> None:
    """The first matrix of a dense network cannot be adapted to other channels."""
    state_dict = to_torch(DENSE, random_variables(DENSE))
    with pytest.raises(InputError, match=r"shape of stem\.weight"):
        from_torch(DENSE.clone(image_size=5), state_dict)


@pytest.mark.parametrize(
    ("field", "found", "near"),
    [("kind", "conf", "conv"), ("shortcut", "gate", "gated"), ("activation", "rellu", "relu")],
)
def test_an_unknown_choice_is_an_error(field: str, found: str, near: str) -> None:
    with pytest.raises(InputError, match=f"^{field} is '{found}'.*{near}"):
        create_model("highway10", **{field: found})


def test_each_stage_needs_a_width() -> None:
    with pytest.raises(InputError, match=r"stage_sizes is \(9,\) .* each stage"):
        create_model("highway10", widths=(50, 50))
