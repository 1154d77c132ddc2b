"""Multi-label classification: its loss, its metrics and what its settings can be."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flax_resnet.errors import InputError
from flax_resnet.steps.mixing import partners
from flax_resnet.steps.tasks.multilabel import (
    multilabel_loss,
    multilabel_metrics,
    multilabel_sums,
    parse_threshold,
)
from flax_resnet.steps.tasks.table import TASKS
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.parsing import parse

LOGITS = jax.random.normal(jax.random.key(0), (4, 3))
LABELS = jnp.asarray([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]], bool)


def test_each_class_is_a_decision_of_its_own() -> None:
    loss, accuracy = multilabel_loss(LOGITS, {"label": LABELS})
    expected = optax.sigmoid_binary_cross_entropy(LOGITS, LABELS.astype(float)).mean()
    assert loss == pytest.approx(float(expected), rel=1e-6)
    assert accuracy == pytest.approx(float(((LOGITS > 0) == LABELS).mean()))


def test_smoothed_targets_move_towards_a_half() -> None:
    smoothed = jnp.where(LABELS, 0.95, 0.05)
    expected = optax.sigmoid_binary_cross_entropy(LOGITS, smoothed).mean()
    loss, _ = multilabel_loss(LOGITS, {"label": LABELS}, label_smoothing=0.1)
    assert loss == pytest.approx(float(expected), rel=1e-6)


def test_weights_of_classes_multiply_what_speaks_for_the_class() -> None:
    weights = (1.0, 3.0, 0.5)
    loss, _ = multilabel_loss(LOGITS, {"label": LABELS}, class_weights=weights)
    logits, labels = np.asarray(LOGITS, np.float64), np.asarray(LABELS)
    # torch.nn.BCEWithLogitsLoss(pos_weight=...)
    terms = np.where(labels, weights * np.logaddexp(0, -logits), np.logaddexp(0, logits))
    assert loss == pytest.approx(terms.mean(), rel=1e-6)


def test_mixed_images_have_both_sets_of_labels() -> None:
    share, partner = np.array([0.75, 0.25, 0.5, 0.9], np.float32), partners(np.asarray(LABELS))
    mixed = {"label": LABELS, "partner": jnp.asarray(partner), "share": jnp.asarray(share)}
    loss, accuracy = multilabel_loss(LOGITS, mixed)
    targets = share[:, None] * LABELS + (1 - share[:, None]) * partner
    expected = optax.sigmoid_binary_cross_entropy(LOGITS, targets).mean()
    assert loss == pytest.approx(float(expected), rel=1e-6)
    right = np.where(share[:, None] >= 0.5, LABELS, partner)
    assert accuracy == pytest.approx(float(((LOGITS > 0) == right).mean()))
    threshold, _ = multilabel_loss(LOGITS, mixed, target_threshold=0.0)
    union = LABELS | partner
    expected = optax.sigmoid_binary_cross_entropy(LOGITS, union.astype(float)).mean()
    assert threshold == pytest.approx(float(expected), rel=1e-6)


def test_outputs_beyond_the_classes_of_the_data_are_never_there() -> None:
    loss, _ = multilabel_loss(LOGITS, {"label": LABELS[:, :2]})
    padded = LABELS.at[:, 2].set(values=False)
    assert loss == pytest.approx(float(multilabel_loss(LOGITS, {"label": padded})[0]))
    with pytest.raises(InputError, match="expected one logit and one label for each class"):
        multilabel_loss(LOGITS, {"label": jnp.zeros(4, int)})


def measured(labels: Any, logits: Any, **settings: Any) -> dict[str, float]:
    mask = jnp.asarray([True, True, True, False])
    sums = multilabel_sums(jnp.asarray(logits), {"label": jnp.asarray(labels), "mask": mask})
    return multilabel_metrics(jax.device_get(sums), ("a", "b", "c"), **settings)


def test_metrics_by_hand() -> None:
    # Of a: its images rank first and third; of b: none is said to be there; c has no images.
    labels = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 1]], bool)
    logits = np.array([[3, -1, -2], [2, -2, -2], [1, -3, -2], [9, 9, 9]], np.float32)
    found = measured(labels, logits)
    assert found["ap/a"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["ap/b"] == pytest.approx(1 / 2)
    assert "ap/c" not in found
    assert found["map"] == pytest.approx((found["ap/a"] + found["ap/b"]) / 2)
    assert (found["f1/a"], found["f1/b"]) == (pytest.approx(4 / 5), 0)
    assert "f1/c" not in found
    assert found["f1"] == pytest.approx(2 / 5)
    assert found["f1_micro"] == pytest.approx(2 * 2 / (3 + 3))
    assert (found["precision"], found["recall"]) == (pytest.approx(1 / 3), pytest.approx(1 / 2))
    assert found["threshold"] == 0.5
    higher = measured(labels, logits, threshold="0.9")
    assert (higher["f1/a"], higher["map"]) == (pytest.approx(2 / 3), found["map"])
    best = measured(labels, logits, threshold="best")
    assert best["threshold"] == best["best_threshold"] == found["best_threshold"]
    assert best["f1_micro"] >= max(found["f1_micro"], higher["f1_micro"])


def test_a_split_without_labels_has_no_average_precision() -> None:
    found = measured(np.zeros((4, 3), bool), -np.ones((4, 3), np.float32))
    assert np.isnan(found["map"])
    assert found["best_threshold"] == 0.5


@pytest.mark.parametrize("text", ["0", "1", "-0.5", "1.5", "nan", "half", ""])
def test_a_threshold_is_a_probability_or_best(text: str) -> None:
    assert parse_threshold("best") is None
    assert parse_threshold("0.25") == 0.25
    with pytest.raises(InputError, match="expected a number above 0 and below 1, or 'best'"):
        parse_threshold(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "softmax"}, r"config\.loss is 'softmax'; expected 'sigmoid'"),
        ({"distill": {"teacher": "resnet50"}}, r"config\.distill\.teacher is 'resnet50'"),
        ({"data": {"sampling": "balanced"}}, "config.class_weights='balanced' weighs the loss"),
        ({"threshold": "2"}, "the threshold is '2'"),
        ({"dice_weight": 0.5}, "unless config.task is 'segmentation'"),
    ],
)
def test_settings_that_several_labels_cannot_have_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        parse({"task": "multilabel", "loss": "sigmoid"} | changes)


def test_a_threshold_is_stored_and_read(tmp_path: Path) -> None:
    config = TrainConfig(task="multilabel", loss="sigmoid", threshold="0.3")
    assert parse(json.loads(json.dumps(config.to_dict()))) == config
    assert TASKS["multilabel"].ranked_by == "map"
