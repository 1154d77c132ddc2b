"""What each shortcut does, and how blocks start as the identity."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from flax_resnet import create_model
from flax_resnet.models import variable_shapes
from flax_resnet.models.blocks import BLOCKS, SHORTCUTS, Layers, zero_pad_shortcut

X = np.random.default_rng(0).uniform(0, 1, (2, 5, 7, 8)).astype(np.float32)  # as if rectified
BOTH = pytest.mark.parametrize("kind", BLOCKS)


@pytest.fixture
def build(init: Any) -> Any:
    """Return the function that makes a block with `channels` outputs and variables for `X`."""

    def run(kind: str, channels: int, stride: int = 1, **layers: Any) -> tuple[Any, Any]:
        block = make(kind, channels, stride, **layers)
        return block, init(block, X, False)

    return run


def make(kind: str, channels: int, stride: int, **layers: Any) -> Any:
    width = channels // BLOCKS[kind].expansion
    return BLOCKS[kind](width, stride, Layers(**layers))


def shapes(kind: str, channels: int, stride: int, **layers: Any) -> Any:
    """Return the variables of a block as shapes."""
    block = make(kind, channels, stride, **layers)
    return jax.eval_shape(lambda key: block.init(key, X, False), jax.random.key(0))


def centred_zero_pad(x: np.ndarray, channels: int) -> np.ndarray:
    before = (channels - x.shape[-1]) // 2
    padded = np.zeros((*x.shape[:-1], channels), x.dtype)
    padded[..., before : before + x.shape[-1]] = x
    return padded


@pytest.mark.parametrize(("channels", "stride"), [(16, 2), (32, 1), (11, 2), (8, 2)])
def test_option_a_keeps_every_second_pixel_and_centres_the_channels(
    channels: int, stride: int
) -> None:
    found = zero_pad_shortcut(jnp.asarray(X), channels, stride)
    np.testing.assert_array_equal(found, centred_zero_pad(X[:, ::stride, ::stride], channels))


@BOTH
def test_option_a_adds_the_padded_input_to_the_branch(kind: str, build: Any) -> None:
    block, variables = build(kind, 16, 2, shortcut="zero_pad", zero_init_last=True)
    found = block.apply(variables, X, False)
    np.testing.assert_array_equal(found, centred_zero_pad(X[:, ::2, ::2], 16))


@BOTH
@pytest.mark.parametrize("shortcut", ["projection", "zero_pad"])
def test_zero_initialised_block_of_equal_shapes_is_the_identity(
    kind: str, shortcut: str, build: Any
) -> None:
    block, variables = build(kind, 8, shortcut=shortcut, zero_init_last=True)
    np.testing.assert_array_equal(block.apply(variables, X, False), X)
    trained, _ = block.apply(variables, X, True, mutable=["batch_stats"])
    np.testing.assert_array_equal(trained, X)


@BOTH
def test_a_block_without_shortcut_adds_nothing(kind: str, build: Any) -> None:
    block, variables = build(kind, 8, shortcut="none", zero_init_last=True)
    assert not np.asarray(block.apply(variables, X, False)).any()  # relu(0), not relu(0 + x)


@BOTH
def test_a_block_rectifies_the_sum_and_not_the_branch(kind: str, build: Any) -> None:
    block, variables = build(kind, 8, zero_init_last=True)
    found = block.apply(variables, X - 0.5, False)
    np.testing.assert_array_equal(found, np.maximum(X - 0.5, 0))


@BOTH
@pytest.mark.parametrize(
    ("shortcut", "same", "wider"),
    [
        ("projection", False, True),
        ("zero_pad", False, False),
        ("all", True, True),
        ("none", False, False),
    ],
)
def test_only_options_b_and_c_project(kind: str, shortcut: str, same: bool, wider: bool) -> None:
    for channels, stride, projects in ((8, 1, same), (16, 1, wider), (8, 2, wider)):
        params = shapes(kind, channels, stride, shortcut=shortcut)["params"]
        assert ("downsample" in params) == projects, (channels, stride)


def test_the_table_above_covers_every_shortcut() -> None:
    assert set(SHORTCUTS) == {"projection", "zero_pad", "all", "none"}


@BOTH
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_a_strided_block_halves_odd_sizes_upwards(kind: str, shortcut: str) -> None:
    block = make(kind, 16, 2, shortcut=shortcut)
    output, _ = jax.eval_shape(lambda key: block.init_with_output(key, X, False), jax.random.key(0))
    assert output.shape == (2, 3, 4, 16)


def test_the_bottleneck_strides_in_its_3x3_convolution(build: Any) -> None:
    """Version 1.5: the first 1x1 convolution still sees every pixel."""
    block, variables = build("bottleneck", 16, 2, shortcut="none")
    changed = X.copy()
    changed[:, 1, 1] += 1.0  # a pixel that a strided 1x1 convolution skips
    assert not np.array_equal(
        block.apply(variables, X, False), block.apply(variables, changed, False)
    )


@pytest.mark.parametrize(("kind", "last"), [("basic", "bn2"), ("bottleneck", "bn3")])
def test_only_the_last_norm_of_a_branch_starts_at_zero(kind: str, last: str, build: Any) -> None:
    _, variables = build(kind, 16, 2, zero_init_last=True)
    for path, leaf in flatten_dict(variables["params"]).items():
        if path[-1] == "scale":
            assert (leaf == (0 if path == (last, "scale") else 1)).all(), path


@BOTH
def test_without_norms_convolutions_have_biases_and_nothing_is_tracked(kind: str) -> None:
    variables = shapes(kind, 16, 2, norm="none")
    assert set(variables) == {"params"}
    leaves = {path[-1] for path in flatten_dict(variables["params"])}
    assert leaves == {"kernel", "bias"}


@pytest.mark.parametrize(
    ("name", "shortcut", "projections"),
    [
        ("resnet18", "projection", 3),
        ("resnet34", "projection", 3),
        ("resnet50", "projection", 4),
        ("resnet18", "zero_pad", 0),
        ("resnet18", "all", 8),
        ("resnet18", "none", 0),
        ("cifar_resnet20", "projection", 2),
    ],
)
def test_networks_project_exactly_where_shapes_change(
    name: str, shortcut: str, projections: int
) -> None:
    params = variable_shapes(create_model(name, shortcut=shortcut))["params"]
    found = [path for path in flatten_dict(params) if path[-3:] == ("downsample", "0", "kernel")]
    assert len(found) == projections
