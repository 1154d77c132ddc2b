"""The network as a pure function: inputs, features, transformations and dtypes."""

from __future__ import annotations

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet import InputError, ResNet, create_model

TINY = ResNet(stage_sizes=(1, 1), widths=(4, 8), num_classes=5)


def images(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(sum(shape)).standard_normal(shape), jnp.float32)


@pytest.fixture(scope="module")
def variables(init: Any) -> Any:
    """Return variables of `TINY` without zeros, running statistics included."""
    rng = np.random.default_rng(0)
    start = init(TINY, images(1, 32, 32, 3))
    noisy = jax.tree.map(lambda leaf: leaf + rng.uniform(0, 0.3, leaf.shape), start)
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float32), noisy)


apply = jax.jit(TINY.apply)
features = jax.jit(lambda variables, x: TINY.apply(variables, x, method="features"))


def swap_axes(variables: Any) -> Any:
    """Exchange height and width in every kernel."""
    return jax.tree.map(lambda k: k.swapaxes(0, 1) if k.ndim == 4 else k, variables)


@pytest.mark.parametrize("size", [(33, 50), (1, 9)])
def test_transposing_images_and_kernels_does_not_change_the_logits(
    size: tuple[int, int], variables: Any
) -> None:
    x = images(2, *size, 3)
    found = apply(swap_axes(variables), x.swapaxes(1, 2))
    np.testing.assert_allclose(found, apply(variables, x), rtol=1e-5, atol=1e-5)


def test_a_one_pixel_image_has_logits(variables: Any) -> None:
    logits = apply(variables, images(2, 1, 1, 3))
    assert logits.shape == (2, 5)
    assert jnp.isfinite(logits).all()


def test_training_on_one_pixel_is_an_error(variables: Any) -> None:
    with pytest.raises(InputError, match="more than one value per channel"):
        jax.eval_shape(lambda v: TINY.apply(v, images(1, 1, 1, 3), train=True), variables)


@pytest.mark.parametrize(
    "shape", [(2, 32, 32, 1), (2, 3, 32, 32), (32, 32, 3), (1, 2, 32, 32, 3), (0, 32, 32, 3),
              (2, 0, 32, 3)]
)  # fmt: skip
def test_images_of_another_shape_are_an_error(shape: tuple[int, ...], variables: Any) -> None:
    with pytest.raises(InputError) as caught:
        TINY.apply(variables, jnp.zeros(shape))
    assert str(shape) in str(caught.value)
    assert "(n, height, width, 3)" in str(caught.value)
    assert "in_channels=" in str(caught.value)


def test_images_of_another_shape_are_an_error_under_jit_too(variables: Any) -> None:
    with pytest.raises(InputError, match="images have shape"):
        apply(variables, jnp.zeros((2, 32, 32, 4)))


@pytest.mark.parametrize("method", ["__call__", "features"])
def test_a_flattening_head_rejects_another_size(method: str) -> None:
    with pytest.raises(InputError, match=r"images are 32x28, but .* for 28x28.*image_size="):
        create_model("mnist_resnet").init(
            jax.random.key(0), jnp.zeros((1, 32, 28, 1)), method=method
        )


def test_a_flattening_head_can_be_created_for_another_size() -> None:
    model = create_model("mnist_resnet", image_size=9, widths=(2,))
    logits, variables = jax.eval_shape(
        model.init_with_output, jax.random.key(0), images(2, 9, 9, 1)
    )
    assert logits.shape == (2, 10)
    assert variables["params"]["fc"]["kernel"].shape == (9 * 9 * 2, 10)


def test_features_are_named_after_the_stages(variables: Any) -> None:
    maps = features(variables, images(2, 33, 64, 3))
    shapes = {name: value.shape for name, value in maps.items()}
    assert shapes == {"stem": (2, 17, 32, 4), "layer1": (2, 9, 16, 4), "layer2": (2, 5, 8, 8)}


def test_logits_are_the_linear_map_of_the_averaged_last_features(variables: Any) -> None:
    x = images(2, 40, 40, 3)
    last = features(variables, x)["layer2"]
    head = variables["params"]["fc"]
    expected = np.asarray(last).mean((1, 2)) @ head["kernel"] + head["bias"][None]
    np.testing.assert_allclose(apply(variables, x), expected, rtol=1e-5, atol=1e-5)


def test_a_headless_network_returns_pooled_features_with_the_same_variables(
    variables: Any,
) -> None:
    x = images(2, 40, 40, 3)
    last = features(variables, x)["layer2"]
    pooled = jax.jit(TINY.clone(num_classes=0).apply)(variables, x)
    np.testing.assert_allclose(pooled, np.asarray(last).mean((1, 2)), rtol=1e-5, atol=1e-6)


def test_features_and_logits_have_the_same_variables() -> None:
    x = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    of_logits = jax.eval_shape(TINY.init, jax.random.key(0), x)
    of_features = jax.eval_shape(
        lambda key, x: TINY.init(key, x, method="features"), jax.random.key(0), x
    )
    assert of_logits == of_features


def test_features_in_training_mode_update_the_running_statistics(variables: Any) -> None:
    x = images(4, 32, 32, 3)
    train = jax.jit(TINY.apply, static_argnames=("train", "mutable", "method"))
    _, expected = train(variables, x, train=True, mutable="batch_stats")
    maps, found = train(variables, x, train=True, mutable="batch_stats", method="features")
    assert maps["layer2"].shape == (4, 4, 4, 8)
    chex.assert_trees_all_close(found, expected, rtol=1e-5)


def test_vmap_over_single_images_equals_the_batch(variables: Any) -> None:
    x = images(3, 32, 32, 3)
    found = jax.jit(jax.vmap(lambda image: TINY.apply(variables, image[None])[0]))(x)
    np.testing.assert_allclose(found, apply(variables, x), rtol=1e-5, atol=1e-5)


def test_vmap_over_variables_equals_each_network(variables: Any) -> None:
    x = images(2, 32, 32, 3)
    twice = jax.tree.map(lambda leaf: 2 * leaf, variables)
    stacked = jax.tree.map(lambda a, b: jnp.stack([a, b]), variables, twice)
    found = jax.jit(jax.vmap(TINY.apply, (0, None)))(stacked, x)
    for index, each in enumerate((variables, twice)):
        np.testing.assert_allclose(found[index], apply(each, x), rtol=1e-4, atol=1e-4)


def test_scan_over_batches_equals_a_loop(variables: Any) -> None:
    batches = images(3, 2, 16, 16, 3)
    _, found = jax.lax.scan(lambda carry, x: (carry, TINY.apply(variables, x)), 0, batches)
    for x, logits in zip(batches, found, strict=True):
        np.testing.assert_allclose(logits, apply(variables, x), rtol=1e-5, atol=1e-5)


def test_initialization_depends_on_the_key_only(init: Any) -> None:
    first = init(TINY, images(1, 16, 16, 3), seed=1)
    again = init(TINY, images(2, 48, 40, 3), seed=1)
    other = init(TINY, images(1, 16, 16, 3), seed=2)
    assert jax.tree.all(jax.tree.map(np.array_equal, first, again))
    kernels = [v["params"]["layer1"]["0"]["conv1"]["kernel"] for v in (first, other)]
    assert not np.array_equal(*kernels)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_keeps_variables_and_logits_in_float32(dtype: str) -> None:
    model = TINY.clone(dtype=jnp.dtype(dtype))
    key, x = jax.random.key(0), images(2, 32, 32, 3)
    logits, variables = jax.eval_shape(model.init_with_output, key, x)
    maps = jax.eval_shape(lambda v: model.apply(v, x, method="features"), variables)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables)} == {"float32"}
    assert logits.dtype == jnp.float32
    assert {leaf.dtype.name for leaf in maps.values()} == {dtype}


def test_the_network_is_a_linen_module_that_jit_can_hash() -> None:
    assert isinstance(TINY, nn.Module)
    assert hash(TINY) == hash(TINY.clone())
