"""An NNX network trains as its Linen network does, bit for bit, and is saved and loaded."""

from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from flax.errors import InvalidRngError

from flax_resnet import InputError, create_model, to_nnx

MODEL = create_model(
    "cifar_resnet20", stage_sizes=(1, 1), widths=(4, 8), num_classes=3, image_size=8
)
IMAGES = jax.random.normal(jax.random.key(1), (6, 8, 8, 3))
LABELS = jnp.arange(6) % 3
OPTIMIZER = optax.sgd(0.1, momentum=0.9)


def loss_of(logits: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()


def linen_steps(variables: Any, count: int) -> Any:
    @jax.jit
    def step(variables: Any, state: Any) -> Any:
        def loss(params: Any) -> Any:
            logits, updates = MODEL.apply(
                variables | {"params": params},
                IMAGES,
                train=True,
                mutable=["batch_stats"],
            )
            return loss_of(logits), updates

        grads, updates = jax.grad(loss, has_aux=True)(variables["params"])
        changes, state = OPTIMIZER.update(grads, state, variables["params"])
        return {"params": optax.apply_updates(variables["params"], changes)} | updates, state

    state = OPTIMIZER.init(variables["params"])
    for _ in range(count):
        variables, state = step(variables, state)
    return variables


@nnx.jit
def nnx_step(network: Any, optimizer: Any) -> None:
    def loss(network: Any) -> jax.Array:
        return loss_of(network(IMAGES))

    optimizer.update(network, nnx.grad(loss, argnums=nnx.DiffState(0, nnx.Param))(network))


def test_training_equals_that_of_linen_to_the_last_bit() -> None:
    before = jax.jit(MODEL.init)(jax.random.key(0), IMAGES)
    network = to_nnx(MODEL, before)
    network.train()
    optimizer = nnx.Optimizer(network, OPTIMIZER, wrt=nnx.Param)
    for _ in range(3):
        nnx_step(network, optimizer)
    chex.assert_trees_all_equal(network.variables(), linen_steps(before, 3))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, network.variables())
    assert all(jax.tree.leaves(moved["batch_stats"]))


def test_inference_equals_that_of_linen_and_changes_nothing() -> None:
    network = to_nnx(MODEL)
    before = network.variables()
    logits = nnx.jit(lambda network, images: network(images))(network, IMAGES)
    expected = jax.jit(lambda images: MODEL.apply(before, images, train=False))(IMAGES)
    chex.assert_trees_all_equal(logits, expected)
    assert list(network.features(IMAGES)) == list(
        MODEL.apply(before, IMAGES, train=False, method="features")
    )
    chex.assert_trees_all_equal(network.variables(), before)


def test_dropout_draws_anew_in_training_and_needs_random_numbers() -> None:
    dropping = MODEL.clone(dropout=0.5)
    network = to_nnx(dropping, rngs=nnx.Rngs(dropout=7))
    chex.assert_trees_all_equal(network(IMAGES), network(IMAGES))
    network.train()
    assert not jnp.array_equal(network(IMAGES), network(IMAGES))
    without = to_nnx(dropping, network.variables())
    without.train()
    with pytest.raises(InvalidRngError, match="dropout"):
        without(IMAGES)


def test_its_state_is_saved_and_loaded(tmp_path: Path) -> None:
    network, other = to_nnx(MODEL), to_nnx(MODEL, seed=1)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", nnx.to_pure_dict(nnx.state(network)))
        checkpointer.wait_until_finished()
        found = checkpointer.restore(tmp_path / "state", nnx.to_pure_dict(nnx.state(other)))
    state = nnx.state(other)
    nnx.replace_by_pure_dict(state, found)
    nnx.update(other, state)
    chex.assert_trees_all_equal(other.variables(), network.variables())


def test_linen_variables_are_copied_and_come_back() -> None:
    variables = jax.jit(MODEL.init)(jax.random.key(0), IMAGES)
    network = to_nnx(MODEL, jax.device_get(variables))
    chex.assert_trees_all_equal(network.variables(), variables)
    assert len(jax.tree.leaves(nnx.state(network, nnx.Param))) == len(
        jax.tree.leaves(variables["params"])
    )
    assert len(jax.tree.leaves(nnx.state(network, nnx.BatchStat))) == len(
        jax.tree.leaves(variables["batch_stats"])
    )


def test_what_does_not_fit_is_an_error() -> None:
    variables = dict(jax.jit(MODEL.init)(jax.random.key(0), IMAGES))
    with pytest.raises(InputError, match=r"\d+ differ, such as batch_stats"):
        to_nnx(MODEL, {"params": variables["params"]})
    with pytest.raises(InputError, match=r"linear/bias, which is \(3,\) and expected \(4,\)"):
        to_nnx(MODEL.clone(num_classes=4), variables)
    with pytest.raises(InputError, match="model is a str; expected a Linen network"):
        to_nnx("resnet50")


def test_a_network_without_batch_norm_has_no_statistics() -> None:
    network = to_nnx(MODEL.clone(norm="none"))
    network.train()
    assert network(IMAGES).shape == (6, 3)
    assert network.variables()["batch_stats"] == {}
