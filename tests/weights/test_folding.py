"""Folded networks have no batch norms, and the same logits."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet import InputError, create_model, fold_batch_norm
from flax_resnet.models import variable_shapes

X = np.random.default_rng(0).standard_normal((2, 32, 32, 3)).astype(np.float32)
SHALLOW = dict(stage_sizes=(2, 1, 1, 1), widths=(8, 8, 16, 16), num_classes=5, image_size=32)
FAMILIES = {
    "resnet18": SHALLOW,
    "resnet50d": SHALLOW,
    "seresnet50": SHALLOW,
    "resnetrs50": SHALLOW,
    "senet154": SHALLOW | dict(cardinality=2, base_width=64),
    "resnest50d": SHALLOW | dict(widths=(16, 16, 16, 16)),
    "skresnet18": SHALLOW,
    "res2net50_26w_4s": SHALLOW | dict(base_width=32),
    "resnetv2_50d": SHALLOW,
    "wrn_16_8": dict(stage_sizes=(2, 1), widths=(8, 16), num_classes=5, image_size=32),
    "cifar_preact_resnet164": dict(stage_sizes=(1, 1), widths=(8, 16), num_classes=5),
    "cifar_densenet40_12": dict(stage_sizes=(2, 2), num_classes=5),
    "densenet121": dict(stage_sizes=(2, 2), growth_rate=8, num_classes=5, image_size=32),
    "unet": dict(base_width=4, depth=2, num_classes=5, image_size=32),
    "unet_resnet18": dict(encoder=create_model("resnet18", **SHALLOW), num_classes=5),
}


def filled(model: Any) -> Any:
    """Return random variables of realistic scale, with different statistics for each norm."""
    rng = np.random.default_rng(1)

    def fill(path: Any, leaf: Any) -> np.ndarray:
        if path[-1].key == "kernel":
            value = rng.standard_normal(leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        elif path[-1].key in ("scale", "var"):
            value = rng.uniform(0.5, 1.5, leaf.shape)
        else:
            value = 0.3 * rng.standard_normal(leaf.shape)
        return value.astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, variable_shapes(model))


def error(found: Any, expected: Any) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


QUICK = ("resnet50d", "resnetv2_50d", "densenet121", "unet")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FAMILIES],
)
def test_folding_does_not_change_the_logits(name: str) -> None:
    model = create_model(name, **FAMILIES[name])
    variables = filled(model)
    folded, fewer = fold_batch_norm(model, variables)
    assert jax.tree.structure(fewer) == jax.tree.structure(variable_shapes(folded))
    assert set(fewer) == {"params"}
    expected = jax.jit(model.apply)(variables, X)
    assert error(jax.jit(folded.apply)(fewer, X), expected) < 1e-5


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_folding_is_exact_in_float64() -> None:
    model = create_model("seresnet50", dtype="float64", **FAMILIES["seresnet50"])
    variables = jax.tree.map(lambda leaf: leaf.astype(np.float64), filled(model))
    folded, fewer = fold_batch_norm(model, variables)
    expected = jax.jit(model.apply)(variables, jnp.asarray(X, jnp.float64))
    assert error(jax.jit(folded.apply)(fewer, jnp.asarray(X, jnp.float64)), expected) < 1e-13


def test_no_norm_remains_after_a_convolution() -> None:
    model = create_model("resnet50d", **FAMILIES["resnet50d"])
    _, fewer = fold_batch_norm(model, filled(model))
    keys = {path[-1].key for path, _ in jax.tree_util.tree_leaves_with_path(fewer)}
    assert keys == {"kernel", "bias"}


def test_the_norms_of_pre_activation_become_a_scale_and_a_shift() -> None:
    model = create_model("resnetv2_18", **FAMILIES["resnetv2_50d"])
    block = fold_batch_norm(model, filled(model))[1]["params"]["stages"]["0"]["blocks"]["0"]
    assert set(block["norm1"]) == {"scale", "bias"}
    assert "norm2" not in block
    assert set(block["conv1"]) == {"kernel", "bias"}
    assert set(block["conv2"]) == {"kernel"}


def test_scanned_blocks_are_folded_too() -> None:
    scanned = create_model("cifar_resnet20", stage_sizes=(3,), widths=(8,), scan_blocks=True)
    variables = filled(scanned)
    folded, fewer = fold_batch_norm(scanned, variables)
    expected = jax.jit(scanned.apply)(variables, X)
    assert error(jax.jit(folded.apply)(fewer, X), expected) < 1e-5


def test_precisions_are_kept() -> None:
    model = create_model("resnet18", **FAMILIES["resnet18"])
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), filled(model))
    assert {leaf.dtype for leaf in jax.tree.leaves(fold_batch_norm(model, half)[1])} == {
        jnp.dtype("bfloat16")
    }


@pytest.mark.parametrize("norm", ["group", "none", "folded"])
def test_a_network_without_batch_norms_has_nothing_to_fold(norm: str) -> None:
    model = create_model("resnet18", norm=norm)
    with pytest.raises(InputError, match=f"no batch norms to fold: its norm is '{norm}'"):
        fold_batch_norm(model, {})
