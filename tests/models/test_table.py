"""Every row of the table: its published size, and a training step. New rows need no new test."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from flax_resnet import ResNet, create_model, list_models
from flax_resnet.models import EncoderUNet, Highway, UNet, count_parameters, variable_shapes

TSV = Path(__file__).parents[1] / "goldens" / "names.tsv"
PUBLISHED = {
    name: (int(parameters), int(size))
    for name, parameters, size in (line.split("\t") for line in TSV.read_text().splitlines()[1:])
}
# Shallow rows of different kinds.
COUNTED = ("ecaresnext26t_32x4d", "resnet10t", "skresnet18", "test_resnet", "resnetv2_18d")
TRACED = ("mnist_resnet", "resnetv2_18d", "test_resnet")
RUN = (
    "cifar_densenet_bc100_12",
    "highway_conv19",
    "mnist_resnet",
    "resnetv2_50d_frn",
    "unet",
)


def rows(*quick: str) -> Any:
    """Parametrize over every row; rows that are not named are exhaustive."""
    return pytest.mark.parametrize(
        "name",
        [
            name if name in quick else pytest.param(name, marks=pytest.mark.exhaustive)
            for name in list_models()
        ],
    )


def test_every_published_network_has_a_row_and_every_row_a_published_size() -> None:
    assert set(PUBLISHED) == set(list_models())


@pytest.mark.parametrize("name", list_models())
def test_a_row_has_the_published_image_size(name: str) -> None:
    assert create_model(name).image_size == PUBLISHED[name][1]


@rows(*COUNTED)
def test_a_row_has_the_published_number_of_parameters(name: str) -> None:
    assert count_parameters(create_model(name)) == PUBLISHED[name][0]


def loss_and_logits(model: Any, variables: Any, images: Any) -> Any:
    """Return ((loss, (logits, new statistics)), gradients) of one training step."""

    def loss(params: Any) -> Any:
        logits, new = model.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        return (logits**2).mean(), (logits, new)

    return jax.value_and_grad(loss, has_aux=True)(variables["params"])


@rows(*TRACED)
def test_a_row_trains_in_bfloat16_with_variables_and_logits_in_float32(name: str) -> None:
    model = create_model(name, dtype="bfloat16")
    side = model.image_size
    images = jax.ShapeDtypeStruct((2, side, side, model.in_channels), jnp.float32)
    variables = variable_shapes(model)
    step = functools.partial(loss_and_logits, model)
    (_, (logits, new)), gradients = jax.eval_shape(step, variables, images)
    assert (logits.shape[0], logits.shape[-1]) == (2, model.num_classes)
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    assert gradients == variables["params"]
    assert new.get("batch_stats") == variables.get("batch_stats")


def cut(name: str) -> Any:
    """Return the network of a row, reduced to two stages of one block that are not wide."""
    row = create_model(name)
    if isinstance(row, UNet):
        return row.clone(base_width=2, depth=2, image_size=44)
    if isinstance(row, EncoderUNet):
        return row.clone(encoder=cut_encoder(row.encoder), decoder_widths=(8, 8, 8), image_size=32)
    return cut_encoder(row)


def cut_encoder(row: Any) -> Any:
    changes: dict[str, Any] = dict(stage_sizes=(1,) * min(2, len(row.stage_sizes)))
    if row.pool == "average":  # so that rows that differ only in size and depth become equal
        changes["image_size"] = 16 if getattr(row, "stem", "cifar") == "cifar" else 32
    if isinstance(row, ResNet):
        changes["widths"] = tuple(map(min, row.widths[:2], (64, 128)))
        changes["block"] = row.block if isinstance(row.block, str) else row.block[:2]
        changes["pruned"] = row.pruned and tuple(stage[:1] for stage in row.pruned[:2])
    if isinstance(row, Highway):
        changes["widths"] = row.widths[:2]
    return row.clone(**changes)


def random_variables(model: Any) -> Any:
    """Return kernels that keep the variance of their inputs, and vectors without zeros."""
    rng = np.random.default_rng(0)

    def make(path: Any, leaf: Any) -> np.ndarray:
        if path[-1].key == "kernel":
            inputs = np.prod(leaf.shape[:-1])
            value = rng.standard_normal(leaf.shape) * (2 / inputs) ** 0.5
        elif path[-1].key in ("scale", "var"):
            value = rng.uniform(0.5, 1, leaf.shape)
        else:
            value = 0.1 * rng.standard_normal(leaf.shape)
        return value.astype(np.float32)

    return jax.tree_util.tree_map_with_path(make, variable_shapes(model))


# Equal modules share one compilation: many rows differ only in depth.
first_step = jax.jit(loss_and_logits, static_argnums=0)


@rows(*RUN)
def test_a_row_has_finite_gradients_that_reach_every_parameter(name: str) -> None:
    model = cut(name)
    side = model.image_size
    images = np.random.default_rng(0).standard_normal((4, side, side, model.in_channels))
    variables = random_variables(model)
    (_, (logits, _)), gradients = first_step(model, variables, images.astype(np.float32))
    assert np.isfinite(logits).all()
    for path, leaf in traverse_util.flatten_dict(gradients).items():
        assert np.isfinite(leaf).all(), path
        assert np.asarray(leaf).any(), path
