"""Shortcuts of every kind, blocks that start as the identity, and activation before the sum."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from flax_resnet import InputError, ResNet, create_model
from flax_resnet.models import count_parameters, variable_shapes
from flax_resnet.models.blocks import EXPANSION, ORDERS, SCALED, SHORTCUTS, Block, zero_pad_shortcut
from flax_resnet.models.design import Design, Layers

X = np.random.default_rng(0).uniform(0, 1, (2, 5, 7, 8)).astype(np.float32)  # as after a relu
BOTH = pytest.mark.parametrize("shape", EXPANSION)
EVERY_ORDER = pytest.mark.parametrize("order", ORDERS)


@pytest.fixture
def build(init: Any) -> Any:
    """Return a function that returns a block with `channels` outputs, and variables for `X`."""

    def run(shape: str, channels: int, stride: int = 1, **arguments: Any) -> tuple[Any, Any]:
        block = make(shape, channels, stride, **arguments)
        return block, init(block, X)

    return run


def make(shape: str, channels: int, stride: int, **arguments: Any) -> Block:
    """Return a block with these arguments for its design and its layers."""
    layers = {field.name for field in dataclasses.fields(Layers)} & arguments.keys()
    return Block(
        shape,
        channels // EXPANSION[shape],
        stride,
        Design(**{key: value for key, value in arguments.items() if key not in layers}),
        Layers(**{key: arguments[key] for key in layers}),
    )


def training(block: Block) -> Block:
    return block.clone(layers=dataclasses.replace(block.layers, train=True))


def shapes(shape: str, channels: int, stride: int, **arguments: Any) -> Any:
    """Return the variables of a block as shapes."""
    block = make(shape, channels, stride, **arguments)
    return jax.eval_shape(lambda key: block.init(key, X), jax.random.key(0))


def centered_zero_pad(x: np.ndarray, channels: int) -> np.ndarray:
    before = (channels - x.shape[-1]) // 2
    padded = np.zeros((*x.shape[:-1], channels), x.dtype)
    padded[..., before : before + x.shape[-1]] = x
    return padded


@pytest.mark.parametrize(("channels", "stride"), [(16, 2), (32, 1), (11, 2), (8, 2)])
def test_option_a_keeps_every_second_pixel_and_centers_the_channels(
    channels: int, stride: int
) -> None:
    found = zero_pad_shortcut(jnp.asarray(X), channels, stride)
    np.testing.assert_array_equal(found, centered_zero_pad(X[:, ::stride, ::stride], channels))


@BOTH
def test_option_a_adds_the_padded_input_to_the_branch(shape: str, build: Any) -> None:
    block, variables = build(shape, 16, 2, shortcut="zero_pad", zero_init_last=True)
    found = block.apply(variables, X)
    np.testing.assert_array_equal(found, centered_zero_pad(X[:, ::2, ::2], 16))


@pytest.mark.parametrize(
    ("shape", "shortcut"), [("basic", "zero_pad"), ("bottleneck", "projection")]
)
def test_a_zero_initialized_block_of_equal_shapes_is_the_identity(
    shape: str, shortcut: str, build: Any
) -> None:
    block, variables = build(shape, 8, shortcut=shortcut, zero_init_last=True)
    np.testing.assert_array_equal(block.apply(variables, X), X)
    trained, _ = training(block).apply(variables, X, mutable=["batch_stats"])
    np.testing.assert_array_equal(trained, X)


@BOTH
def test_a_block_without_shortcut_adds_nothing(shape: str, build: Any) -> None:
    block, variables = build(shape, 8, shortcut="none", zero_init_last=True)
    assert not np.asarray(block.apply(variables, X)).any()  # relu(0), not relu(0 + x)


@BOTH
def test_a_block_rectifies_the_sum_and_not_the_branch(shape: str, build: Any) -> None:
    block, variables = build(shape, 8, zero_init_last=True)
    found = block.apply(variables, X - 0.5)
    np.testing.assert_array_equal(found, np.maximum(X - 0.5, 0))


@BOTH
@EVERY_ORDER
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_a_shortcut_projects_where_its_kind_requires(shape: str, order: str, shortcut: str) -> None:
    same = shortcut == "all"
    wider = shortcut not in ("zero_pad", "none")
    for channels, stride, projects in ((8, 1, same), (16, 1, wider), (8, 2, wider)):
        params = shapes(shape, channels, stride, shortcut=shortcut, order=order)["params"]
        assert ("downsample" in params) == projects, (channels, stride)


@pytest.mark.parametrize(
    ("shortcut", "stride", "size", "names"),
    [
        ("projection", 2, 1, {"0", "1"}),
        ("projection_3x3", 2, 3, {"0", "1"}),
        ("projection_3x3", 1, 1, {"0", "1"}),
        ("average", 2, 1, {"1", "2"}),  # the average is number 0
        ("average", 1, 1, {"1", "2"}),
        ("all", 2, 1, {"0", "1"}),
    ],
)
def test_a_projection_is_a_convolution_and_a_norm(
    shortcut: str, stride: int, size: int, names: set[str]
) -> None:
    params = shapes("basic", 16, stride, shortcut=shortcut)["params"]["downsample"]
    assert set(params) == names
    assert params[min(names)]["kernel"].shape == (size, size, 8, 16)
    assert params[max(names)]["scale"].shape == (16,)


@pytest.mark.parametrize("shortcut", ["projection", "average", "all"])
def test_pre_activation_projects_without_a_norm(shortcut: str) -> None:
    params = shapes("basic", 16, 2, shortcut=shortcut, order="pre")["params"]["downsample"]
    assert {name: set(leaves) for name, leaves in params.items()} == {"conv": {"kernel"}}


def test_an_averaging_shortcut_sees_every_pixel(build: Any) -> None:
    """A strided projection sees one in four."""
    changed = X.copy()
    changed[:, 1, 1] += 1.0
    for shortcut, sees in (("average", True), ("projection", False)):
        block, variables = build("basic", 16, 2, shortcut=shortcut, zero_init_last=True)
        outputs = [block.apply(variables, x) for x in (X, changed)]
        assert np.array_equal(*outputs) != sees


@BOTH
def test_a_pre_activation_projection_uses_the_output_of_the_first_norm(
    shape: str, build: Any
) -> None:
    block, variables = build(shape, 16, order="pre", zero_init_last=True)
    variables["batch_stats"]["norm1"]["mean"] = jnp.full(8, 2.0)  # X becomes zero
    assert not block.apply(variables, X).any()
    same, variables = build(shape, 8, order="pre", zero_init_last=True)
    variables["batch_stats"]["norm1"]["mean"] = jnp.full(8, 2.0)
    np.testing.assert_array_equal(same.apply(variables, X), X)  # the identity skips the norm


@BOTH
def test_a_pre_activation_block_does_not_rectify_the_sum(shape: str, build: Any) -> None:
    block, variables = build(shape, 8, order="pre", zero_init_last=True)
    np.testing.assert_array_equal(block.apply(variables, X - 0.5), X - 0.5)


def test_a_shortcut_of_another_size_than_its_branch_is_an_error() -> None:
    """The average in the branch rounds down, the stride of the shortcut rounds up."""
    with pytest.raises(InputError, match=r"maps of \(2, 3\) .* of \(3, 4\): .*image size"):
        shapes("basic", 16, 2, anti_alias="average", shortcut="projection")


@BOTH
@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_a_strided_block_halves_odd_sizes_upwards(shape: str, shortcut: str) -> None:
    block = make(shape, 16, 2, shortcut=shortcut)
    output, _ = jax.eval_shape(lambda key: block.init_with_output(key, X), jax.random.key(0))
    assert output.shape == (2, 3, 4, 16)


def test_the_bottleneck_strides_in_its_3x3_convolution(build: Any) -> None:
    """Version 1.5: the first 1x1 convolution still sees every pixel."""
    block, variables = build("bottleneck", 16, 2, shortcut="none")
    changed = X.copy()
    changed[:, 1, 1] += 1.0  # a pixel that a strided 1x1 convolution skips
    assert not np.array_equal(block.apply(variables, X), block.apply(variables, changed))


@pytest.mark.parametrize(("shape", "last"), [("basic", "bn2"), ("bottleneck", "bn3")])
def test_only_the_last_norm_of_a_branch_starts_at_zero(shape: str, last: str, build: Any) -> None:
    _, variables = build(shape, 16, 2, zero_init_last=True)
    for path, leaf in flatten_dict(variables["params"]).items():
        if path[-1] == "scale":
            assert (leaf == (0 if path == (last, "scale") else 1)).all(), path


@BOTH
def test_without_norms_convolutions_have_biases_and_nothing_is_tracked(shape: str) -> None:
    variables = shapes(shape, 16, 2, norm="none")
    assert set(variables) == {"params"}
    leaves = {path[-1] for path in flatten_dict(variables["params"])}
    assert leaves == {"kernel", "bias"}


@pytest.mark.parametrize(
    ("name", "shortcut", "projections"),
    [
        ("resnet18", "projection", 3),
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


TINY = ResNet((2, 2), (4, 8), stem="cifar", num_classes=3, image_size=8)


@pytest.fixture
def build_plain() -> Any:
    """Return a function that returns a block of 8 channels without norms, and random variables."""

    def run(order: str = "pre", **design: Any) -> tuple[Block, Any]:
        block = Block("basic", 8, 1, Design(order=order, **design), Layers(norm="none"))
        rng = np.random.default_rng(1)
        shapes = jax.eval_shape(lambda key: block.init(key, X), jax.random.key(0))
        return block, jax.tree.map(
            lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32), shapes
        )

    return run


def branch_of(block: Block, variables: Any) -> np.ndarray:
    """Return the output of the branch: of the block in order `pre` without its shortcut."""
    plain = block.clone(design=Design(order="pre", shortcut="none"))
    return np.asarray(plain.apply(variables, X))


def gate_of(variables: Any) -> np.ndarray:
    """Return the transform gate, by hand."""
    gate = variables["params"]["transform"]
    return 1 / (1 + np.exp(-(X @ gate["kernel"][0, 0] + gate["bias"][None, None, None])))


def test_exclusive_gating_is_a_weighted_mean_of_branch_and_input(build_plain: Any) -> None:
    block, variables = build_plain(shortcut="gated")
    gate, branch = gate_of(variables), branch_of(block, variables)
    expected = branch * gate + X * (1 - gate)
    np.testing.assert_allclose(block.apply(variables, X), expected, rtol=1e-5, atol=1e-6)


def test_shortcut_only_gating_does_not_scale_the_branch(build_plain: Any) -> None:
    block, variables = build_plain(shortcut="gated_shortcut")
    gate, branch = gate_of(variables), branch_of(block, variables)
    expected = branch + X * (1 - gate)
    np.testing.assert_allclose(block.apply(variables, X), expected, rtol=1e-5, atol=1e-6)


def test_constant_scaling_halves_branch_and_input(build_plain: Any) -> None:
    block, variables = build_plain(shortcut="halved")
    expected = (branch_of(block, variables) + X) / 2
    np.testing.assert_allclose(block.apply(variables, X), expected, rtol=1e-5, atol=1e-6)


def test_shortcut_dropout_drops_half_of_the_input_in_training_only(build_plain: Any) -> None:
    block, variables = build_plain(shortcut="dropout")
    branch = branch_of(block, variables)
    np.testing.assert_allclose(block.apply(variables, X), branch + X, rtol=1e-5, atol=1e-6)
    rngs = {"dropout": jax.random.key(0)}
    factor = (np.asarray(training(block).apply(variables, X, rngs=rngs)) - branch) / X
    dropped = np.isclose(factor, 0, atol=1e-3)
    assert (dropped | np.isclose(factor, 2, atol=1e-3)).all()
    assert 0.4 < dropped.mean() < 0.6


@pytest.mark.parametrize("shortcut", ["gated", "gated_shortcut"])
def test_a_gate_starts_at_the_value_of_its_bias(shortcut: str, init: Any) -> None:
    """With a branch of zeros, the output is the scaled input."""
    design = Design(order="pre", shortcut=shortcut, carry_bias=-3.0, zero_init_last=True)
    block = Block("bottleneck", 2, 1, design, Layers())
    found = block.apply(init(block, X), X)
    np.testing.assert_allclose(found, X * (1 - 1 / (1 + np.exp(3.0))), rtol=1e-6)


@pytest.mark.parametrize("shortcut", SCALED)
def test_blocks_that_change_the_map_project_and_have_no_gate(shortcut: str) -> None:
    params = variable_shapes(TINY.clone(shortcut=shortcut))["params"]
    found = {
        ".".join(path[:3]) for path in flatten_dict(params) if path[2:] == ("transform", "bias")
    }
    gated = "gated" in shortcut
    assert found == (
        {f"layer{i}.{j}.transform" for i, j in ((1, 0), (1, 1), (2, 1))} if gated else set()
    )
    assert "downsample" in params["layer2"]["0"]


def test_a_gate_is_one_matrix_and_one_bias() -> None:
    plain, gated = (create_model("cifar_resnet20", shortcut=s) for s in ("projection", "gated"))
    gates = 3 * (16**2 + 16) + 2 * (32**2 + 32) + 2 * (64**2 + 64)
    assert count_parameters(gated) - count_parameters(plain) == gates


def test_a_branch_activated_before_the_sum_only_adds(init: Any) -> None:
    before, after = (
        Block("basic", 8, 1, Design(order=order), Layers()) for order in ("act_before_add", "post")
    )
    variables, x = init(before, X), X - 0.5
    branch = after.clone(design=Design(shortcut="none")).apply(variables, x)  # rectified
    assert np.asarray(branch).any()
    np.testing.assert_allclose(before.apply(variables, x), branch + x, rtol=1e-6)


def test_activation_before_the_sum_changes_no_variable() -> None:
    for name in ("resnet18", "resnet50d"):
        moved = create_model(name, order="act_before_add")
        assert variable_shapes(moved) == variable_shapes(create_model(name))
        assert moved.first_conv == create_model(name).first_conv


def test_activation_before_the_sum_cannot_start_at_zero() -> None:
    """A relu has no gradient at zero, so such a branch would stay there."""
    with pytest.raises(InputError, match="zero_init_last=False"):
        TINY.clone(order="act_before_add", zero_init_last=True)
    assert TINY.clone(order="act_before_add", zero_init_last=True, activation="elu")


QUICK = [("post", "gated"), ("pre", "dropout"), ("act_before_add", "halved")]


@pytest.mark.parametrize(
    ("order", "shortcut"),
    [
        pytest.param(*pair, marks=() if pair in QUICK else pytest.mark.slow)
        for pair in itertools.product(ORDERS, SCALED)
    ],
)
def test_every_order_trains_with_every_shortcut(order: str, shortcut: str) -> None:
    model = TINY.clone(order=order, shortcut=shortcut, stage_sizes=(2,), widths=(4,))
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: rng.uniform(0.1, 1, leaf.shape), variable_shapes(model))
    images = jnp.asarray(rng.standard_normal((4, 8, 8, 3)), jnp.float32)

    @jax.jit
    def gradients(params: Any) -> Any:
        def loss(params: Any) -> Any:
            logits, _ = model.apply(
                {**variables, "params": params},
                images,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.key(0)},
            )
            return (logits**2).mean()

        return jax.grad(loss)(params)

    for path, leaf in flatten_dict(gradients(variables["params"])).items():
        assert np.isfinite(leaf).all() and np.asarray(leaf).any(), path
