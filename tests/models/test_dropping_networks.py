"""What networks drop in training, at which rate, and which random numbers they use."""

from __future__ import annotations

import itertools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.errors import InvalidRngError

from flax_resnet import DenseNet, ResNet, to_layout
from flax_resnet.models import variable_shapes
from flax_resnet.models.layers import DropBlock, DropPath

RNGS = {"dropout": jax.random.key(0)}
TINY = ResNet((1, 1, 1, 1), (4, 4, 4, 4), stem="cifar", num_classes=3, image_size=8)
ONE = TINY.clone(stage_sizes=(1,), widths=(4,))
DENSE = DenseNet((1,), 4, bottleneck=0, stem="cifar", num_classes=3, image_size=8)
# Each block adds its own number to the map, so that the sum identifies the blocks that were kept.
COUNTING = ResNet(
    (3, 3), (1, 1), order="pre", norm="none", stem="cifar", num_classes=0, image_size=2
)


def calls(model: nn.Module, kind: type) -> list[tuple[nn.Module, tuple[Any, ...]]]:
    """Return the modules of a kind that one training step calls, with their arguments."""
    found = []

    def record(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if isinstance(context.module, kind) and context.method_name == "__call__":
            found.append((context.module, args))
        return call(*args, **kwargs)

    with nn.intercept_methods(record):
        train_shapes(model, RNGS)
    return found


def train_shapes(model: Any, rngs: Any) -> Any:
    x = jax.ShapeDtypeStruct((2, model.image_size, model.image_size, 3), jnp.float32)

    def step(variables: Any, x: jax.Array) -> Any:
        return model.apply(variables, x, train=True, rngs=rngs, mutable=["batch_stats"])

    return jax.eval_shape(step, variable_shapes(model), x)


def test_drop_path_rates_grow_linearly_from_zero_at_the_first_block() -> None:
    model = TINY.clone(stage_sizes=(2, 1, 3, 1), drop_path=0.3)
    rates = [float(args[1]) for _, args in calls(model, DropPath)]
    np.testing.assert_allclose(rates, np.linspace(0, 0.3, 7))


def test_drop_path_of_a_single_block_drops_nothing() -> None:
    model = ResNet((1,), (4,), drop_path=0.3, image_size=8)
    assert [float(args[1]) for _, args in calls(model, DropPath)] == [0]


@pytest.mark.parametrize("scan", [False, True])
def test_each_block_of_a_network_is_dropped_at_its_own_rate(scan: bool) -> None:
    model = COUNTING.clone(drop_path=0.5, scan_blocks=scan)
    rates, worth = np.linspace(0, 0.5, 6), 3.0 ** np.arange(6)
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape), variable_shapes(COUNTING))
    for number in range(6):
        block = variables["params"]["stages"][str(number // 3)]["blocks"][str(number % 3)]
        block["conv2"]["bias"][:] = worth[number]
    # The shortcut of the strided block is the identity.
    variables["params"]["stages"]["1"]["blocks"]["0"]["downsample"]["conv"]["kernel"][:] = 1
    x = jnp.zeros((3000, 2, 2, 3))
    sums = model.apply(to_layout(model, variables), x, train=True, rngs=RNGS)

    patterns = np.array(list(itertools.product([0, 1], repeat=6)))
    possible = (patterns * worth / (1 - rates)).sum(1)
    nearest = abs(np.asarray(sums) - possible[None]).argmin(1)
    np.testing.assert_allclose(sums[:, 0], possible[nearest], rtol=1e-5)
    np.testing.assert_allclose(patterns[nearest].mean(0), 1 - rates, atol=0.04)


def test_drop_block_is_larger_in_the_third_stage_than_in_the_fourth() -> None:
    found = calls(TINY.clone(drop_block=0.1), DropBlock)
    assert [
        (module.path[0], module.rate, module.size, module.scale) for module, _ in found
    ] == [("layer3", 0.1, 5, 0.25), ("layer4", 0.1, 3, 1.0)]  # fmt: skip


@pytest.mark.parametrize("middle", ["conv", "scales", "selective_kernel", "split_attention"])
def test_every_kind_of_middle_has_its_drop_block(middle: str) -> None:
    model = ResNet(
        (1, 1, 1), (32, 32, 32), block="bottleneck", middle=middle, drop_block=0.1, image_size=16
    )
    assert {module.path[:2] for module, _ in calls(model, DropBlock)} == {("layer3", "0")}


def test_block_dropout_drops_inputs_of_the_last_convolution() -> None:
    model = ResNet(
        (1,), (4,), order="pre", norm="none", stem="cifar", stem_width=4, num_classes=0,
        image_size=4, block_dropout=0.25,
    )  # fmt: skip
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape), variable_shapes(model))
    stem, block = variables["params"]["stem"], variables["params"]["stages"]["0"]["blocks"]["0"]
    stem["conv"]["bias"][:] = 1
    for name in ("conv1", "conv2"):
        block[name]["kernel"][1, 1] = np.eye(4)  # the identity
    maps = model.apply(
        variables, jnp.zeros((500, 4, 4, 3)), train=True, rngs=RNGS, method="features"
    )
    branch = np.asarray(maps["layer1"]) - 1
    np.testing.assert_allclose(np.unique(branch.round(5)), [0, 1 / 0.75], rtol=1e-4)
    assert (branch == 0).mean() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("model", [ONE, pytest.param(DENSE, marks=pytest.mark.slow)])
def test_dropout_in_front_of_the_head_drops_pooled_features(model: Any, init: Any) -> None:
    headless = model.clone(num_classes=0)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((64, 8, 8, 3)), jnp.float32)
    variables = init(headless, x)
    apply = jax.jit(
        lambda model, rngs: model.apply(variables, x, train=True, rngs=rngs), static_argnums=0
    )
    expected, found = apply(headless, {}), apply(headless.clone(dropout=0.5), RNGS)
    found, expected = found[expected != 0], expected[expected != 0]
    np.testing.assert_allclose(found[found != 0], 2 * expected[found != 0], rtol=1e-4)
    assert (found != 0).mean() == pytest.approx(0.5, abs=0.2)


DROPPING = [
    (ONE, "drop_path"),
    (TINY, "drop_block"),
    (ONE, "block_dropout"),
    (ONE, "dropout"),
    (DENSE, "dropout"),
    (DENSE, "layer_dropout"),
]


@pytest.mark.parametrize(("model", "field"), DROPPING)
def test_training_needs_the_rng_dropout_and_inference_none(model: Any, field: str) -> None:
    dropping = model.clone(**{field: 0.1})
    with pytest.raises(InvalidRngError, match="dropout"):
        train_shapes(dropping, {})
    train_shapes(dropping, RNGS)
    x = jnp.zeros((2, 8, 8, 3))
    assert jax.eval_shape(dropping.apply, variable_shapes(dropping), x).shape == (2, 3)


@pytest.mark.parametrize(("model", "field"), DROPPING)
def test_a_network_that_drops_has_the_same_variables(model: Any, field: str) -> None:
    assert variable_shapes(model.clone(**{field: 0.1})) == variable_shapes(model)


def test_a_network_that_drops_nothing_needs_no_rng() -> None:
    logits, _ = train_shapes(TINY, {})
    assert logits.shape == (2, 3)
