"""Losses compared with published values and with their definitions."""

import functools
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flax_resnet.steps.tasks.losses import binary_cross_entropy, cross_entropy, soft_cross_entropy

GOLDENS = Path(__file__).parents[2] / "goldens" / "losses.json"


@pytest.fixture(params=[lambda function: function, jax.jit], ids=["plain", "jit"])
def variant(request: pytest.FixtureRequest) -> Any:
    """Return what is done to a function before it is called: nothing, or `jax.jit`."""
    return request.param


@pytest.mark.usefixtures("x64")
def test_smoothed_cross_entropy_equals_torchs(variant: Any) -> None:
    golden = json.loads(GOLDENS.read_text())
    loss = variant(functools.partial(cross_entropy, smoothing=0.1))
    losses = loss(jnp.asarray(golden["logits"]), jnp.asarray(golden["labels"]))
    np.testing.assert_allclose(losses.mean(), golden["ce_smooth0p1"], rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("bce_smooth0p1", dict(smoothing=0.1)),
        ("bce_threshold0p2", dict(threshold=0.2)),
        # Smoothing comes first, and 0.01 is not above the threshold.
        ("bce_threshold0p2", dict(smoothing=0.1, threshold=0.2)),
    ],
)
def test_binary_cross_entropy_equals_timms(
    name: str, arguments: dict[str, float], variant: Any
) -> None:
    golden = json.loads(GOLDENS.read_text())
    targets = jnp.eye(10)[jnp.asarray(golden["labels"])]
    loss = variant(functools.partial(binary_cross_entropy, **arguments))
    losses = loss(jnp.asarray(golden["logits"]), targets)
    assert losses.shape == (6,)
    np.testing.assert_allclose(losses.mean(), golden[name], rtol=1e-12)


def test_a_threshold_makes_every_present_class_a_target() -> None:
    logits = jax.random.normal(jax.random.key(0), (2, 4))
    targets = jnp.asarray([[0.3, 0.0, 0.7, 0.0], [0.1, 0.9, 0.0, 0.0]])
    asked = jnp.asarray([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    np.testing.assert_array_equal(
        binary_cross_entropy(logits, targets, threshold=0.2), binary_cross_entropy(logits, asked)
    )


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_soft_targets_mix_the_losses_of_their_classes(smoothing: float) -> None:
    logits = jax.random.normal(jax.random.key(0), (5, 7), jnp.float64)
    first, second, share = jnp.arange(5), jnp.arange(5) + 2, jnp.linspace(0, 1, 5)
    targets = share[:, None] * jnp.eye(7)[first] + (1 - share)[:, None] * jnp.eye(7)[second]
    one, other = (cross_entropy(logits, labels, smoothing) for labels in (first, second))
    found = soft_cross_entropy(logits, targets, smoothing)
    np.testing.assert_allclose(found, share * one + (1 - share) * other, rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_smoothing_spreads_the_target_over_all_classes(smoothing: float) -> None:
    logits = jax.random.normal(jax.random.key(0), (5, 7))
    labels = jnp.arange(5)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, 7), smoothing)
    expected = optax.softmax_cross_entropy(logits, targets)
    np.testing.assert_allclose(cross_entropy(logits, labels, smoothing), expected, rtol=1e-5)


def test_half_precision_logits_give_float32_losses() -> None:
    logits, targets = jnp.zeros((2, 4), jnp.bfloat16), jnp.eye(4)[:2]
    for losses, value in (
        (cross_entropy(logits, jnp.zeros(2, jnp.int32), 0.1), np.log(4)),
        (soft_cross_entropy(logits, targets, 0.1), np.log(4)),
        (binary_cross_entropy(logits, targets, 0.1), np.log(2)),
    ):
        assert losses.dtype == jnp.float32
        np.testing.assert_allclose(losses, value, rtol=1e-6)
