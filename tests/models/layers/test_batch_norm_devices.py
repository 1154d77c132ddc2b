"""Batch norm under `jit` over eight devices: equal results, and its communication."""

from __future__ import annotations

import functools
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from flax_resnet import ResNet

DEVICES, BATCH, WIDTHS = 8, 16, (4, 8)
COLLECTIVE = re.compile(
    r"= (\S.*?) (all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\("
)


def network(norm_group: int | None) -> ResNet:
    return ResNet((1, 1), WIDTHS, num_classes=5, norm_group=norm_group, dtype=jnp.float64)


def shardings(devices: int) -> tuple[NamedSharding, NamedSharding]:
    """Return the shardings of replicated variables and of a batch."""
    mesh = Mesh(np.asarray(jax.devices()[:devices]), ("data",))
    return NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))


@functools.cache
def compiled(norm_group: int | None, devices: int, backwards: bool = False) -> Any:
    """Compile a training step: (variables, images) -> (new statistics, logits or gradients)."""
    model = network(norm_group)
    copied, split = shardings(devices)

    def forward(params: Any, statistics: Any, images: jax.Array) -> Any:
        variables = {"params": params, "batch_stats": statistics}
        logits, new = model.apply(variables, images, train=True, mutable=["batch_stats"])
        return (logits**2).sum(), (logits, new["batch_stats"])

    def step(variables: Any, images: jax.Array) -> Any:
        arguments = (variables["params"], variables["batch_stats"], images)
        if backwards:
            return jax.value_and_grad(forward, has_aux=True)(*arguments)
        return forward(*arguments)[1]

    outputs = ((copied, (split, copied)), copied) if backwards else (split, copied)
    return (
        jax.jit(step, in_shardings=(copied, split), out_shardings=outputs)
        .lower(start(), images())
        .compile()
    )


def images() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((BATCH, 16, 16, 3))


def start() -> Any:
    """Return float64 variables of the network."""
    shapes = jax.eval_shape(network(None).init, jax.random.key(0), images())
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.uniform(0.1, 0.5, leaf.shape), shapes)


def collectives(compiled: Any) -> list[tuple[str, int]]:
    """Return the kind and the number of scalars of each transfer between devices."""
    found = []
    for shapes, kind in COLLECTIVE.findall(compiled.as_text()):
        sizes = re.findall(r"\w+\[([\d,]*)\]", shapes)
        found.append((kind, sum(math.prod(map(int, filter(None, s.split(",")))) for s in sizes)))
    return found


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("norm_group", [None, pytest.param(4, marks=pytest.mark.slow)])
def test_a_training_step_is_the_same_on_one_and_on_eight_devices(
    norm_group: int | None,
) -> None:
    one, eight = (
        compiled(norm_group, devices, backwards=True)(start(), images()) for devices in (1, DEVICES)
    )
    for expected, found in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        scale = float(abs(expected).max())
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * scale)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("norm_group", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_groups_within_a_device_communicate_running_statistics_only(norm_group: int) -> None:
    for kind, scalars in collectives(compiled(norm_group, DEVICES)):
        assert kind == "all-reduce"
        # XLA can combine the statistics of all norms in one transfer.
        statistics = sum(leaf.size for leaf in jax.tree.leaves(start()["batch_stats"]))
        assert scalars <= statistics


@pytest.mark.usefixtures("x64")
def test_groups_within_a_device_need_no_communication_for_the_logits() -> None:
    model = network(BATCH // DEVICES)
    copied, split = shardings(DEVICES)
    logits = jax.jit(
        lambda variables, x: model.apply(variables, x, train=True),
        in_shardings=(copied, split),
        out_shardings=split,
    )
    assert collectives(logits.lower(start(), images()).compile()) == []


@pytest.mark.usefixtures("x64")
def test_activations_stay_on_their_device() -> None:
    """Statistics and gradients are reduced, maps are never gathered."""
    found = collectives(compiled(None, DEVICES, backwards=True))
    assert {kind for kind, _ in found} == {"all-reduce"}
    assert max(scalars for _, scalars in found) <= sum(
        leaf.size for leaf in jax.tree.leaves(start())
    )


@pytest.mark.usefixtures("x64")
def test_the_global_batch_exchanges_statistics() -> None:
    """Check that the search of the tests above finds the communication of global batch norm."""
    channels = max(WIDTHS)
    found = collectives(compiled(None, DEVICES))
    assert found
    assert all(scalars <= 4 * channels for _, scalars in found)
