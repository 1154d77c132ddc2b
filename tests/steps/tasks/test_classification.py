"""Classification: targets of plain and of mixed images."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flax_resnet.errors import InputError
from flax_resnet.steps.tasks.classification import (
    among,
    classification_loss,
    classification_metrics,
    classification_sums,
    soft_targets,
)
from flax_resnet.steps.tasks.losses import binary_cross_entropy
from flax_resnet.steps.tasks.table import CLASSIFICATION
from flax_resnet.training.parsing import parse

LOGITS = jax.random.normal(jax.random.key(0), (4, 5))
PLAIN = {"label": jnp.asarray([0, 1, 2, 3])}
MIXED = PLAIN | {
    "partner": jnp.asarray([2, 3, 2, 0]),
    "share": jnp.asarray([0.75, 0.25, 0.5, 1.0]),
}


def test_a_mixed_images_target_is_both_labels() -> None:
    np.testing.assert_array_equal(soft_targets(PLAIN, 5), np.eye(5)[:4])
    expected = [[0.75, 0, 0.25, 0, 0], [0, 0.25, 0, 0.75, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]]
    np.testing.assert_array_equal(soft_targets(MIXED, 5), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_losses_take_the_targets(smoothing: float) -> None:
    targets = optax.smooth_labels(soft_targets(MIXED, 5), smoothing)
    softmax, _ = classification_loss(LOGITS, MIXED, smoothing)
    expected = optax.softmax_cross_entropy(LOGITS, targets).mean()
    np.testing.assert_allclose(softmax, expected, rtol=1e-6)
    sigmoid, _ = classification_loss(LOGITS, MIXED, smoothing, "sigmoid")
    expected = optax.sigmoid_binary_cross_entropy(LOGITS, targets).mean()
    np.testing.assert_allclose(sigmoid, expected, rtol=1e-6)
    asked, _ = classification_loss(LOGITS, PLAIN, smoothing, "sigmoid", 0.2)
    expected = binary_cross_entropy(LOGITS, jnp.eye(5)[:4]).mean()
    np.testing.assert_allclose(asked, expected, rtol=1e-6)


def test_class_weights_multiply_the_targets() -> None:
    weights = (1.0, 2.0, 0.5, 0.0, 3.0)
    chances = np.asarray(jax.nn.log_softmax(LOGITS))
    plain, _ = classification_loss(LOGITS, PLAIN, class_weights=weights)
    own = chances[range(4), PLAIN["label"]] * np.array(weights)[:4]
    np.testing.assert_allclose(plain, -own.mean(), rtol=1e-6)
    targets = optax.smooth_labels(soft_targets(MIXED, 5), 0.1) * np.array([weights])
    softmax, _ = classification_loss(LOGITS, MIXED, 0.1, class_weights=weights)
    np.testing.assert_allclose(softmax, -(targets * chances).sum(1).mean(), rtol=1e-6)
    # torch calls them pos_weight.
    sigmoid, _ = classification_loss(LOGITS, PLAIN, loss="sigmoid", class_weights=weights)
    own = jax.nn.one_hot(PLAIN["label"], 5)
    right = own * np.array([weights]) * jax.nn.log_sigmoid(LOGITS)
    expected = -(right + (1 - own) * jax.nn.log_sigmoid(-LOGITS)).mean()
    np.testing.assert_allclose(sigmoid, expected, rtol=1e-6)


@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_class_weights_of_one_change_nothing(loss: str) -> None:
    for batch in (PLAIN, MIXED):
        plain = classification_loss(LOGITS, batch, 0.1, loss)[0]
        same = classification_loss(LOGITS, batch, 0.1, loss, class_weights=(1.0,) * 5)[0]
        np.testing.assert_allclose(same, plain, rtol=1e-6)


def test_sums_count_labels_that_rank_first_and_among_the_first_five() -> None:
    ranked = -jnp.arange(7.0)[None].repeat(5, 0)  # class 0 first, class 6 last
    batch = {"label": jnp.asarray([0, 1, 4, 5, 0]), "mask": jnp.asarray([1, 1, 1, 1, 0], bool)}
    sums = classification_sums(ranked, batch)
    assert {key: int(sums[key]) for key in ("count", "top1", "top5")} == {
        "count": 4,
        "top1": 1,
        "top5": 3,
    }


def test_any_of_several_labels_is_right_and_images_without_labels_do_not_count() -> None:
    ranked = -jnp.arange(7.0)[None].repeat(5, 0)  # class 0 first, class 6 last
    right = [[0, 3], [1], [6], [], [0]]
    labels = np.zeros((5, 7), bool)
    for row, classes in enumerate(right):
        labels[row, classes] = True
    batch = {"label": jnp.asarray(labels), "mask": jnp.asarray([1, 1, 1, 1, 0], bool)}
    sums = classification_sums(ranked, batch)
    counts = {key: int(sums[key]) for key in ("count", "top1", "top5", "unlabeled")}
    assert counts == {"count": 3, "top1": 1, "top5": 2, "unlabeled": 1}
    chances = jax.nn.softmax(ranked[0])
    expected = -jnp.log(jnp.stack([chances[0] + chances[3], chances[1], chances[6]])).sum()
    np.testing.assert_allclose(sums["loss"], expected, rtol=1e-6)
    means = classification_metrics(jax.device_get(sums), ())
    np.testing.assert_allclose([means["top1"], means["top5"]], [1 / 3, 2 / 3])
    assert means["unlabeled"] == 1


def test_one_of_several_labels_counts_as_a_plain_label() -> None:
    plain = {"label": jnp.asarray([0, 1, 2, 3]), "mask": jnp.ones(4, bool)}
    several = plain | {"label": jax.nn.one_hot(plain["label"], 4, dtype=bool)}
    for key, value in classification_sums(LOGITS, plain).items():
        found = classification_sums(LOGITS, several)[key]
        np.testing.assert_allclose(found, value, rtol=1e-6)


def test_a_prediction_is_chosen_among_the_classes_that_occur() -> None:
    logits = jnp.asarray([[5.0, 1.0, 4.0, 3.0], [0.0, 1.0, 2.0, 9.0]])
    batch = {"label": jnp.asarray([2, 1]), "mask": jnp.ones(2, bool)}
    assert int(classification_sums(logits, batch)["top1"]) == 0
    assert among(logits, ()) is logits
    chosen = among(logits, (1, 2))
    assert chosen.tolist() == [[-jnp.inf, 1, 4, -jnp.inf], [-jnp.inf, 1, 2, -jnp.inf]]
    sums = classification_sums(chosen, batch)
    assert int(sums["top1"]) == 1
    assert int(sums["top5"]) == 2
    expected = np.log1p(np.exp(-3)) + np.log1p(np.exp(1))  # of two classes
    np.testing.assert_allclose(sums["loss"], expected, rtol=1e-6)


def test_the_label_with_the_greater_share_counts_as_correct() -> None:
    sure = jax.nn.one_hot(jnp.asarray([0, 3, 2, 3]), 5)
    assert float(classification_loss(sure, MIXED)[1]) == 1.0
    assert float(classification_loss(sure, PLAIN)[1]) == 0.75


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss": "hinge"}, r"config.loss is 'hinge'; expected one of sigmoid, softmax"),
        ({"target_threshold": 0.2}, r"config.target_threshold is 0.2; .* None unless config.loss"),
        ({"loss": "sigmoid", "target_threshold": 1.0}, r"target_threshold is 1.0"),
        ({"task": "segmentation", "loss": "sigmoid"}, r"config.loss is 'sigmoid'; expected 'soft"),
        ({"task": "segmentation", "mix": {"mixup": 0.2}}, r"config.mix.mixup is 0.2; expected 0.0"),
        ({"task": "segmentation", "mix": {"cutmix": 1.0}}, r"config.mix.cutmix is 1.0; expected"),
        ({"task": "segmentation", "accumulate": 2}, r"config.accumulate is 2; expected 1 if"),
        ({"task": "segmentation", "distill": {"teacher": "x"}}, r"distill.teacher is 'x'; expecte"),
        ({"accumulate": 0}, r"config.accumulate is 0; expected at least 1"),
        ({"distill": {"temperature": 0.0}}, r"config.distill.temperature is 0.0; expected a posit"),
        ({"distill": {"weight": 1.5}}, r"config.distill.weight is 1.5; expected above 0 and at m"),
    ],
)
def test_incompatible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(settings)


def test_top_5_is_shown_where_there_are_more_classes() -> None:
    assert "top-5" not in CLASSIFICATION.shown_for(5).line
    assert list(CLASSIFICATION.shown_for(2).columns) == ["loss", "top-1"]
    assert CLASSIFICATION.shown_for(6) is CLASSIFICATION
