"""The figures of a run as a page shows them: key figures, classes, and the confusion matrix."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from flax_resnet.inference.calibration import BINS, calibration_error, reliability
from flax_resnet.inference.confusion import Confusion
from flax_resnet.inference.measures import intervals
from flax_resnet.report.predictions import SplitPredictions
from flax_resnet.steps.tasks.classification import TOP_K
from flax_resnet.training.logging.writers import Row
from flax_resnet.training.runs import Run

# With more classes a matrix shows those with the most errors, and the others together.
MATRIX = 100
# How many times as many images the largest class has as the smallest before accuracy misleads.
_UNEVEN = 1.5


# What the score and the cells of a `ClassFigures` are, by task.
CLASS_COLUMNS = {
    "classification": ("Recall", ("Errors", "Images", "Precision", "F1", "Mostly taken for")),
    "multilabel": ("Average precision", ("F1",)),
    "segmentation": ("Dice", ("IoU",)),
}


class Figure(NamedTuple):
    """A key figure."""

    title: str
    value: str
    note: str = ""


class ClassFigures(NamedTuple):
    """How well a class is recognized."""

    name: str
    score: float
    """The first of its `CLASS_COLUMNS`: 0 to 1."""
    cells: tuple[str, ...]
    """Further columns of the table."""


class Cell(NamedTuple):
    """A cell of a confusion matrix."""

    images: int
    share: float
    """Of the images of the true class."""
    right: bool
    label: str
    """What the cell says, in words."""


class Matrix(NamedTuple):
    """A confusion matrix: a name for each column, and a name with cells for each row."""

    columns: list[str]
    rows: list[tuple[str, list[Cell]]]


def percent(share: float, digits: int = 1) -> str:
    """Return a share of 1 as a percentage."""
    return f"{share:.{digits}%}".replace("%", " %")


def classification_figures(run: Run, predictions: SplitPredictions) -> list[Figure]:
    """Return the figures of a classification run: the test result first, where there is one."""
    confusion, metrics = predictions.confusion, predictions.metrics
    right, counted = int(confusion.trace()), int(confusion.sum())
    low, high = accuracy_interval(right, counted)
    tested = run.config.data.test_split is not None
    note = f"{right:,} of {counted:,} images; 95 % interval {percent(low)} to {percent(high)}"
    kind = "Test" if tested else "Validation"
    figures = [Figure(f"{kind} accuracy", percent(metrics["top1"]), note)]
    best = reported_metrics(run)
    if tested and "top1" in best:
        note = "of the images that chose the checkpoint"
        figures.append(Figure("Validation accuracy", percent(best["top1"]), note))
    sizes = [size for size in confusion.sum(1).tolist() if size]
    if sizes and max(sizes) > _UNEVEN * min(sizes):
        mean = float(np.mean([recall for recall in _recalls(confusion) if math.isfinite(recall)]))
        figures.append(Figure("Mean recall", percent(mean), "every class counts alike"))
    if len(confusion) > TOP_K:
        note = f"true class among the first {TOP_K}"
        figures.append(Figure("Top-5 accuracy", percent(metrics["top5"]), note))
    if counted:
        low, high = intervals(predictions.scores, len(confusion))["f1"]
        note = f"mean over the classes; 95 % interval {percent(low)} to {percent(high)}"
        figures.append(Figure("F1", percent(metrics["f1"]), note))
    error = calibration_error(reliability(predictions.scores))
    figures.append(Figure("Calibration error", f"{error:.4f}", _tempered(predictions)))
    return [*figures, Figure("Loss", f"{metrics['loss']:.4f}", f"cross-entropy, {kind.lower()}")]


def _tempered(predictions: SplitPredictions) -> str:
    """Return the note on the calibration error, with that at the temperature if there is one."""
    note = f"ECE, {BINS} bins"
    if predictions.temperature is None:
        return note
    error = calibration_error(reliability(predictions.calibrated))
    fitted = f"{predictions.temperature:.3f}, fitted on the validation images"
    return f"{note}; {error:.4f} at temperature {fitted}"


def multilabel_figures(run: Run, metrics: Mapping[str, float]) -> list[Figure]:
    """Return the figures of a run with several classes an image; none if it was never evaluated."""
    if "map" not in metrics:
        return []
    tested = run.config.data.test_split is not None
    kind = "Test" if tested else "Validation"
    figures = [Figure(f"{kind} mAP", percent(metrics["map"]), "mean over the classes")]
    best = reported_metrics(run)
    if tested and "map" in best:
        note = "of the images that chose the checkpoint"
        figures.append(Figure("Validation mAP", percent(best["map"]), note))
    at = f"at the threshold {metrics['threshold']:.3f}"
    return [
        *figures,
        Figure("F1", percent(metrics["f1"]), f"mean over the classes, {at}"),
        Figure("Micro F1", percent(metrics["f1_micro"]), f"over all decisions, {at}"),
        Figure("Precision", percent(metrics["precision"]), f"mean over the classes, {at}"),
        Figure("Recall", percent(metrics["recall"]), f"mean over the classes, {at}"),
        Figure("Loss", f"{metrics['loss']:.4f}", f"binary cross-entropy, {kind.lower()}"),
    ]


def segmentation_figures(run: Run, metrics: Mapping[str, float]) -> list[Figure]:
    """Return the figures of a segmentation run; none if it was never evaluated."""
    if "dice" not in metrics:
        return []
    tested = run.config.data.test_split is not None
    kind = "Test" if tested else "Validation"
    figures = [Figure(f"{kind} Dice", f"{metrics['dice']:.4f}", "mean over the classes")]
    best = reported_metrics(run)
    if tested and "dice" in best:
        note = "of the images that chose the checkpoint"
        figures.append(Figure("Validation Dice", f"{best['dice']:.4f}", note))
    return [
        *figures,
        Figure("IoU", f"{metrics['iou']:.4f}", "mean over the classes"),
        Figure("Pixel error", percent(metrics["pixel_error"], 2)),
        Figure("Loss", f"{metrics['loss']:.4f}", kind.lower()),
    ]


def run_figures(run: Run, rows: Sequence[Row], training_images: int | None) -> list[Figure]:
    """Return the figures of any run: its network, training images and checkpoint."""
    parameters = sum(leaf.size for leaf in jax.tree.leaves(run.variables["params"]))
    size = run.config.data.test_size
    figures = [Figure("Network", run.config.model.name, f"{parameters:,} parameters, {size} px")]
    if training_images is not None:
        figures.append(Figure("Training images", f"{training_images:,}"))
    evaluations = sum(row["kind"] == "eval" for row in rows)
    note = f"best of {evaluations} evaluations" if evaluations > 1 else ""
    return [*figures, Figure("Checkpoint", f"step {run.step:,}", note), *stage_gradients(rows)]


def stage_gradients(rows: Sequence[Row]) -> list[Figure]:
    """Return how far apart the gradient norms of stages are, if the run has logged them."""
    norms: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            if key.startswith("gradient_norm/") and value:
                norms.setdefault(key.partition("/")[2], []).append(value)
    medians = {stage: float(np.median(found)) for stage, found in norms.items()}
    if len(medians) < 2:
        return []
    most, least = max(medians, key=medians.__getitem__), min(medians, key=medians.__getitem__)
    note = f"{most} {medians[most]:.2g}, {least} {medians[least]:.2g}; up to 100 times is usual"
    return [Figure("Gradient norms of stages", f"{medians[most] / medians[least]:.3g} times", note)]


def reported_metrics(run: Run) -> dict[str, float]:
    """Return the metrics of the variables that were restored: of the average, if they are one."""
    own = "" if run.average is None else f"{run.average}_"
    return {key: run.metrics.get(own + key, value) for key, value in run.metrics.items()}


def recognized_classes(confusion: Confusion, names: Sequence[str]) -> list[ClassFigures]:
    """Return the classes that have images, those that need attention first.

    They are those of the lowest recall, and among equals those with the most errors. The cells are
    errors, images, precision, F1, and what the class is taken for most often.
    """
    found = []
    for at, recall in enumerate(_recalls(confusion)):
        images, predicted = int(confusion[at].sum()), int(confusion[:, at].sum())
        if not images:
            continue
        others = np.where(np.arange(len(confusion)) == at, 0, confusion[at])
        worst = int(others.argmax())
        taken = f"{names[worst]} ({others[worst]:,})" if others[worst] else ""
        precision = percent(confusion[at, at] / predicted, 0) if predicted else "never predicted"
        errors = images - int(confusion[at, at])
        f1 = percent(2 * int(confusion[at, at]) / (images + predicted), 0)
        cells = (f"{errors:,}", f"{images:,}", precision, f1, taken)
        found.append((recall, -errors, ClassFigures(names[at], recall, cells)))
    return [figures for *_, figures in sorted(found, key=lambda each: each[:2])]


def labeled_classes(metrics: Mapping[str, float]) -> list[ClassFigures]:
    """Return the classes of images with several, the lowest average precision first."""
    names = [key.removeprefix("ap/") for key in metrics if key.startswith("ap/")]
    found = [
        ClassFigures(name, metrics[f"ap/{name}"], (percent(metrics[f"f1/{name}"], 0),))
        for name in names
    ]
    return sorted(found, key=lambda each: each.score)


def segmented_classes(metrics: Mapping[str, float]) -> list[ClassFigures]:
    """Return the classes of pixels, the lowest Dice coefficient first; the cell is the IoU."""
    names = [key.removeprefix("dice/") for key in metrics if key.startswith("dice/")]
    found = [
        ClassFigures(name, metrics[f"dice/{name}"], (f"{metrics[f'iou/{name}']:.4f}",))
        for name in names
    ]
    return sorted(found, key=lambda each: each.score)


def matrix(confusion: Confusion, names: Sequence[str], most: int = MATRIX) -> Matrix:
    """Return a matrix of the classes that occur, or of the `most` with the most errors."""
    wrong = confusion.sum(0) + confusion.sum(1) - 2 * np.diag(confusion)
    occurs = np.flatnonzero(confusion.sum(0) + confusion.sum(1))
    chosen = sorted(occurs[np.argsort(-wrong[occurs], kind="stable")][:most].tolist())
    columns = [names[at] for at in chosen]
    rows = []
    for at in chosen:
        total = int(confusion[at].sum())
        counts = [(other, int(confusion[at, other])) for other in chosen]
        if len(chosen) < len(occurs):
            counts.append((-1, total - sum(count for _, count in counts)))
        cells = []
        for other, count in counts:
            share, name = count / max(total, 1), names[other] if other >= 0 else "another class"
            label = f"{names[at]} predicted as {name}: {count:,} of {total:,} ({percent(share)})"
            cells.append(Cell(count, share, at == other, label))
        rows.append((names[at], cells))
    return Matrix(columns + ["others"] * (len(chosen) < len(occurs)), rows)


def _recalls(confusion: Confusion) -> list[float]:
    """Return the share of each class's images that is recognized; NaN without images."""
    pairs = zip(np.diag(confusion).tolist(), confusion.sum(1).tolist(), strict=True)
    return [right / images if images else math.nan for right, images in pairs]


def accuracy_interval(right: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of an accuracy (Wilson, 1927)."""
    if not total:
        return 0.0, 1.0
    z, share = 1.96, right / total
    middle = share + z**2 / (2 * total)
    half = z * math.sqrt(share * (1 - share) / total + (z / (2 * total)) ** 2)
    scale = 1 + z**2 / total
    return max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)
