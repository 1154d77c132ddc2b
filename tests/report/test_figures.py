"""The figures of a page: key figures, classes by what needs attention, the confusion matrix."""

import numpy as np
import pytest

from flax_resnet.report.figures import (
    accuracy_interval,
    matrix,
    percent,
    recognized_classes,
    segmented_classes,
    stage_gradients,
)

NAMES = ["cat", "dog", "owl", "yak"]
CONFUSION = np.array([[3, 1, 0, 0], [2, 4, 2, 0], [0, 0, 5, 0], [0, 0, 0, 0]])


def test_the_class_with_the_lowest_recall_and_among_equals_the_most_errors_is_first() -> None:
    classes = recognized_classes(CONFUSION, NAMES)
    assert [each.name for each in classes] == ["dog", "cat", "owl"]
    assert [each.score for each in classes] == [0.5, 0.75, 1.0]
    assert classes[0].cells == ("4", "8", "80 %", "62 %", "cat (2)")
    assert classes[2].cells == ("0", "5", "71 %", "83 %", "")
    equal = np.array([[1, 1, 0, 0], [4, 4, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert [each.name for each in recognized_classes(equal, NAMES)] == ["dog", "cat"]


def test_a_class_that_is_never_predicted_has_no_precision() -> None:
    (classes,) = recognized_classes(np.array([[0, 2], [0, 0]]), NAMES[:2])
    assert (classes.score, classes.cells[2]) == (0.0, "never predicted")


def test_a_matrix_has_the_classes_that_occur_with_counts_and_shares() -> None:
    shown = matrix(CONFUSION, NAMES)
    assert shown.columns == [name for name, _ in shown.rows] == ["cat", "dog", "owl"]
    _, cells = shown.rows[1]
    assert [(cell.images, cell.share, cell.right) for cell in cells] == [
        (2, 0.25, False),
        (4, 0.5, True),
        (2, 0.25, False),
    ]
    assert cells[0].label == "dog predicted as cat: 2 of 8 (25.0 %)"


def test_a_large_matrix_has_the_classes_with_the_most_errors_and_the_others_in_one_column() -> None:
    shown = matrix(CONFUSION, NAMES, most=2)
    assert shown.columns == ["cat", "dog", "others"]
    assert [[cell.images for cell in cells] for _, cells in shown.rows] == [[3, 1, 0], [2, 4, 2]]


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [(152, 350, 0.383, 0.487), (0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0), (0, 0, 0.0, 1.0)],
)
def test_the_interval_of_an_accuracy(right: int, total: int, low: float, high: float) -> None:
    assert accuracy_interval(right, total) == pytest.approx((low, high), abs=1e-3)


def test_classes_of_pixels_are_sorted_by_dice() -> None:
    metrics = {"dice": 0.7, "dice/cell": 0.9, "dice/wall": 0.5, "iou/cell": 0.8, "iou/wall": 0.4}
    assert [(each.name, each.cells) for each in segmented_classes(metrics)] == [
        ("wall", ("0.4000",)),
        ("cell", ("0.8000",)),
    ]


def test_shares_are_percentages() -> None:
    assert (percent(0.4343), percent(0.4343, 0)) == ("43.4 %", "43 %")


def test_the_gradient_norms_of_stages_are_compared_by_their_medians() -> None:
    logged = [
        {"kind": "train", "step": at, "gradient_norm/stem": stem, "gradient_norm/head": 0.5}
        for at, stem in enumerate((1.0, 5.0, None, 100.0), 1)
    ]
    (figure,) = stage_gradients(logged)
    assert figure.value == "10 times"
    assert "stem 5, head 0.5" in figure.note


def test_a_run_that_does_not_log_the_gradients_of_stages_has_no_figure_of_them() -> None:
    assert stage_gradients([{"kind": "train", "step": 1, "gradient_norm": 1.0}]) == []
