"""Losses against published values and against their definition."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flax_resnet.training.tasks.losses import cross_entropy

GOLDENS = Path(__file__).parents[2] / "goldens" / "losses.json"


@pytest.mark.usefixtures("x64")
def test_smoothed_cross_entropy_equals_torchs() -> None:
    golden = json.loads(GOLDENS.read_text())
    losses = cross_entropy(jnp.asarray(golden["logits"]), jnp.asarray(golden["labels"]), 0.1)
    np.testing.assert_allclose(losses.mean(), golden["ce_smooth0p1"], rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_smoothing_spreads_the_target_over_all_classes(smoothing: float) -> None:
    logits = jax.random.normal(jax.random.key(0), (5, 7))
    labels = jnp.arange(5)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, 7), smoothing)
    expected = optax.softmax_cross_entropy(logits, targets)
    np.testing.assert_allclose(cross_entropy(logits, labels, smoothing), expected, rtol=1e-5)


def test_half_precision_logits_give_float32_losses() -> None:
    losses = cross_entropy(jnp.zeros((2, 4), jnp.bfloat16), jnp.zeros(2, jnp.int32), 0.1)
    assert losses.dtype == jnp.float32
    np.testing.assert_allclose(losses, np.log(4), rtol=1e-6)
