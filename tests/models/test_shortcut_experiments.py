"""Scaled, gated and dropped shortcuts, and branches that are activated before the sum."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from flax_resnet import InputError, ResNet, create_model
from flax_resnet.models import count_parameters, variable_shapes
from flax_resnet.models.blocks import ORDERS, SCALED, Block
from flax_resnet.models.design import Design, Layers

X = np.random.default_rng(0).uniform(0, 1, (2, 5, 7, 8)).astype(np.float32)  # as if rectified
TINY = ResNet((2, 2), (4, 8), stem="cifar", num_classes=3, image_size=8)


@pytest.fixture
def build(init: Any) -> Any:
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


def test_exclusive_gating_is_a_weighted_mean_of_branch_and_input(build: Any) -> None:
    block, variables = build(shortcut="gated")
    gate, branch = gate_of(variables), branch_of(block, variables)
    expected = branch * gate + X * (1 - gate)
    np.testing.assert_allclose(block.apply(variables, X), expected, rtol=1e-5, atol=1e-6)


def test_shortcut_only_gating_does_not_scale_the_branch(build: Any) -> None:
    block, variables = build(shortcut="gated_shortcut")
    gate, branch = gate_of(variables), branch_of(block, variables)
    expected = branch + X * (1 - gate)
    np.testing.assert_allclose(block.apply(variables, X), expected, rtol=1e-5, atol=1e-6)


def test_constant_scaling_halves_branch_and_input(build: Any) -> None:
    block, variables = build(shortcut="halved")
    expected = (branch_of(block, variables) + X) / 2
    np.testing.assert_allclose(block.apply(variables, X), expected, rtol=1e-5, atol=1e-6)


def test_shortcut_dropout_drops_half_of_the_input_in_training_only(build: Any) -> None:
    block, variables = build(shortcut="dropout")
    branch = branch_of(block, variables)
    np.testing.assert_allclose(block.apply(variables, X), branch + X, rtol=1e-5, atol=1e-6)
    training = block.clone(layers=Layers(norm="none", train=True))
    rngs = {"dropout": jax.random.key(0)}
    factor = (np.asarray(training.apply(variables, X, rngs=rngs)) - branch) / X
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
