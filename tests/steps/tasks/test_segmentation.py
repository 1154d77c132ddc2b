"""Segmentation: its loss and its metrics, by their definitions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from flax_resnet.errors import InputError
from flax_resnet.models import IGNORED
from flax_resnet.steps.tasks import segmentation
from flax_resnet.steps.tasks.classification import classification_loss
from flax_resnet.steps.tasks.confusion import confusion_metrics, count_confusion
from flax_resnet.steps.tasks.losses import soft_dice
from flax_resnet.steps.tasks.segmentation import (
    segmentation_loss,
    segmentation_metrics,
    segmentation_sums,
)
from flax_resnet.steps.tasks.table import TASKS

NAMES = ("sky", "sea", "sand")


def random_batch(count: int = 3) -> tuple[np.ndarray, dict[str, Any]]:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((count, 6, 5, 3)).astype(np.float32)
    labels = rng.integers(0, 3, (count, 6, 5)).astype(np.uint8)
    labels[:, :2] = IGNORED
    return logits, {"label": labels, "mask": np.ones(count, np.bool_)}


def losses_of(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the cross-entropies of the pixels that count."""
    counted = labels != IGNORED
    return np.asarray(
        optax.softmax_cross_entropy_with_integer_labels(
            logits[counted], labels[counted].astype(np.int32)
        )
    )


def test_the_loss_is_the_mean_over_the_pixels_that_count() -> None:
    logits, batch = random_batch()
    loss, accuracy = segmentation_loss(logits, batch)
    counted = batch["label"] != IGNORED
    np.testing.assert_allclose(loss, losses_of(logits, batch["label"]).mean(), rtol=1e-6)
    right = (logits.argmax(-1) == batch["label"])[counted].mean()
    np.testing.assert_allclose(accuracy, right, rtol=1e-6)


def test_ignored_pixels_change_nothing() -> None:
    logits, batch = random_batch()
    grad = jax.jit(jax.grad(lambda x: segmentation_loss(x, batch, dice_weight=1.0)[0]))(logits)
    ignored = batch["label"] == IGNORED
    assert not np.asarray(grad)[ignored].any()
    assert np.asarray(grad)[~ignored].all()


def test_weights_scale_the_losses_of_pixels() -> None:
    logits, batch = random_batch()
    weights = np.random.default_rng(1).uniform(0, 3, batch["label"].shape).astype(np.float32)
    loss, accuracy = segmentation_loss(logits, batch | {"weight": weights})
    counted = batch["label"] != IGNORED
    expected = np.average(losses_of(logits, batch["label"]), weights=weights[counted])
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert accuracy == segmentation_loss(logits, batch)[1]


def test_a_batch_of_ignored_pixels_has_no_loss() -> None:
    logits, batch = random_batch()
    loss, accuracy = segmentation_loss(logits, batch | {"label": np.full((3, 6, 5), 255, np.uint8)})
    assert float(loss) == float(accuracy) == 0


def test_soft_dice_of_certain_pixels_is_the_dice_coefficient() -> None:
    labels = jnp.asarray([[0, 0, 0, 1, 1, 2]])
    found = jnp.asarray([[0, 0, 1, 1, 1, 1]])
    logits = 100.0 * jax.nn.one_hot(found, 4)
    counted = jnp.ones((1, 6), bool)
    np.testing.assert_allclose(soft_dice(logits, labels, counted), [0.8, 4 / 6, 0, 1], atol=1e-6)
    np.testing.assert_allclose(
        soft_dice(logits, labels, counted.at[0, 2].set(False)), [1, 0.8, 0, 1], atol=1e-6
    )


def test_the_dice_loss_is_added_with_its_weight() -> None:
    logits, batch = random_batch()
    labels, counted = segmentation.truth(logits, batch["label"])
    plain, _ = segmentation_loss(logits, batch)
    both, _ = segmentation_loss(logits, batch, dice_weight=0.3)
    expected = plain + 0.3 * (1 - soft_dice(logits, labels, counted).mean())
    np.testing.assert_allclose(both, expected, rtol=1e-6)


def test_metrics_are_exact_over_all_batches() -> None:
    logits, batch = random_batch(4)
    parts = [slice(0, 2), slice(2, 4)]
    sums = [
        segmentation_sums(logits[part], {key: value[part] for key, value in batch.items()})
        for part in parts
    ]
    totals = {key: sum(np.asarray(each[key], np.float64) for each in sums) for key in sums[0]}
    metrics = segmentation_metrics(totals, NAMES)

    counted = batch["label"] != IGNORED
    truth, found = batch["label"][counted], logits.argmax(-1)[counted]
    assert totals["count"] == 4
    assert totals["confusion"].sum() == counted.sum()
    assert metrics["pixel_error"] == pytest.approx(np.mean(truth != found))
    assert metrics["loss"] == pytest.approx(losses_of(logits, batch["label"]).mean(), rel=1e-6)
    for label, name in enumerate(NAMES):
        both = np.sum((truth == label) & (found == label))
        either = np.sum((truth == label) | (found == label))
        size = np.sum(truth == label) + np.sum(found == label)
        assert metrics[f"dice/{name}"] == pytest.approx(2 * both / size)
        assert metrics[f"iou/{name}"] == pytest.approx(both / either)
    assert metrics["dice"] == pytest.approx(np.mean([metrics[f"dice/{name}"] for name in NAMES]))
    assert metrics["iou"] == pytest.approx(np.mean([metrics[f"iou/{name}"] for name in NAMES]))


def test_a_class_neither_present_nor_predicted_has_no_metrics() -> None:
    metrics = confusion_metrics(np.asarray([[3.0, 1, 0], [0, 0, 0], [0, 0, 0]]), NAMES)
    assert set(metrics) == {
        "pixel_error", "dice", "iou", "dice/sky", "iou/sky", "dice/sea", "iou/sea"
    }  # fmt: skip
    assert metrics["dice/sea"] == 0
    assert metrics["dice"] == pytest.approx(3 / 7)


def test_elements_are_counted_by_true_and_predicted_class_in_any_integer_type() -> None:
    truth, predicted = (
        np.array([[0, 1, 199], [1, 255, 0]], np.uint8),
        np.array([[0, 1, 2], [2, 0, 0]]),
    )
    confusion = np.asarray(count_confusion(truth, predicted, truth < 200, 200))
    assert np.argwhere(confusion).tolist() == [[0, 0], [1, 1], [1, 2], [199, 2]]
    assert (confusion.sum(), confusion[0, 0]) == (5, 2)


def test_outputs_beyond_the_classes_of_the_data_count_as_wrong() -> None:
    confusion = np.zeros((5, 5))
    confusion[0, 0], confusion[0, 4] = 6, 2
    metrics = confusion_metrics(confusion, ("only",))
    assert metrics["pixel_error"] == 0.25
    assert metrics["dice"] == metrics["dice/only"] == pytest.approx(12 / 14)


def test_the_printed_line_has_dice_iou_and_pixel_error() -> None:
    metrics = dict(loss=0.25, dice=0.5, iou=0.375, pixel_error=0.0625)
    task = TASKS["segmentation"]
    assert task.line.format_map(metrics) == (
        "loss 0.2500  Dice 0.5000  IoU 0.3750  pixel error 6.25%"
    )
    shown = [text.format_map(metrics) for text in task.columns.values()]
    assert shown == ["0.2500", "0.5000", "0.3750", "6.25%"]
    assert task.ranked_by in metrics


def test_without_any_pixel_the_metrics_are_nan() -> None:
    totals = {"confusion": np.zeros((3, 3)), "loss": np.zeros(())}
    metrics = segmentation_metrics(totals, NAMES)
    assert set(metrics) == {"loss", "pixel_error", "dice", "iou"}
    assert np.isnan(list(metrics.values())).all()


def test_a_network_of_the_other_task_is_refused() -> None:
    pixels, images = jnp.zeros((2, 8, 8, 3)), jnp.zeros((2, 3))
    masks, classes = jnp.zeros((2, 8, 8), jnp.uint8), jnp.zeros(2, jnp.int32)
    with pytest.raises(InputError, match=r"gives \(3,\) for images of \(8, 8\) pixels.*unet"):
        segmentation_loss(images, {"label": masks})
    with pytest.raises(InputError, match=r"gives \(8, 8, 3\) for an image.*'segmentation'"):
        classification_loss(pixels, {"label": classes})
