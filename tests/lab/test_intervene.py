"""Blocks that are observed, deleted and shifted from outside."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet import create_model
from flax_resnet.errors import InputError
from flax_resnet.lab.intervene import (
    apply_changed,
    block_gradients,
    block_outputs,
    block_paths,
    bypass,
    delete_blocks,
)

TINY = dict(stage_sizes=(2, 2), widths=(4, 8), num_classes=3, image_size=8, in_channels=1)


@pytest.fixture(scope="module")
def images() -> jax.Array:
    return jax.random.normal(jax.random.key(1), (2, 8, 8, 1))


def made(order: str, images: jax.Array, **arguments: Any) -> Any:
    model = create_model("cifar_resnet20", **(TINY | arguments), order=order)
    return model, jax.jit(model.init)(jax.random.key(0), images)


@pytest.mark.parametrize("order", ["post", "pre"])
def test_every_block_is_seen_once_and_in_order(order: str, images: jax.Array) -> None:
    model, variables = made(order, images)
    assert len(block_paths(model)) == 4
    seen = block_outputs(model, variables, images)
    assert [y.shape[-1] for _, y in seen] == [4, 4, 8, 8]
    for (_, before), (x, _) in itertools.pairwise(seen):
        np.testing.assert_array_equal(before, x)


@pytest.mark.parametrize("order", ["post", "pre"])
def test_keeping_all_blocks_keeps_the_logits(order: str, images: jax.Array) -> None:
    model, variables = made(order, images)
    changed = apply_changed(model, variables, images, delete_blocks(jnp.ones(4, bool)))
    np.testing.assert_array_equal(changed, model.apply(variables, images))


def test_deleting_a_block_of_zeros_keeps_the_logits(images: jax.Array) -> None:
    model, variables = made("post", images, zero_init_last=True)
    whole = model.apply(variables, images)
    for gone in range(4):
        keep = jnp.arange(4) != gone
        changed = apply_changed(model, variables, images, delete_blocks(keep))
        np.testing.assert_array_equal(changed, whole)
    model, variables = made("post", images)
    keep = jnp.asarray([True, False, True, True])
    changed = apply_changed(model, variables, images, delete_blocks(keep))
    assert not np.allclose(changed, model.apply(variables, images))


def test_the_bypass_has_the_shape_of_the_output() -> None:
    x, y = jnp.ones((1, 8, 8, 4)), jnp.zeros((1, 4, 4, 8))
    around = bypass(x, y)
    assert around.shape == y.shape
    assert around.sum() == 4 * 4 * 4  # the new channels are zero
    assert bypass(y, y) is y


@pytest.mark.slow
def test_the_gradient_of_the_last_output_is_that_of_the_head(images: jax.Array, x64: None) -> None:
    model, variables = made("post", images.astype(jnp.float64), dtype="float64", stage_sizes=(1, 1))
    images, labels = images.astype(jnp.float64), jnp.asarray([0, 2])
    norms = block_gradients(model, variables, images, labels)
    assert norms.shape == (2,)
    logits, _ = model.apply(variables, images, train=True, mutable=["batch_stats"])
    of_logits = (jax.nn.softmax(logits) - jax.nn.one_hot(labels, 3)) / 2
    pixels = 4 * 4  # the head sees their mean
    of_maps = of_logits @ variables["params"]["linear"]["kernel"].T / pixels
    np.testing.assert_allclose(norms[1], jnp.linalg.norm(of_maps) * np.sqrt(pixels), rtol=1e-9)


def test_scanned_blocks_and_networks_without_blocks_are_refused(images: jax.Array) -> None:
    for model in (
        create_model("cifar_resnet20", scan_blocks=True),
        create_model("cifar_densenet40_12"),
    ):
        with pytest.raises(InputError, match="expected a ResNet without scan_blocks"):
            block_paths(model)
