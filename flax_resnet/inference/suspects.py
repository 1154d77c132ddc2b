"""The labels that are most likely wrong (confident learning, arXiv:1911.00068)."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from flax_resnet.files import replace_text, writable
from flax_resnet.inference.scores import Scores


class Suspect(NamedTuple):
    """An image whose label is doubtful."""

    row: int
    """Which of the images that were scored it is."""
    label: int
    suggested: int
    """The class that the network sees instead."""
    label_probability: float
    suggested_probability: float


def suspects(scores: Scores) -> list[Suspect]:
    """Return the images whose labels are most likely wrong, the most doubtful first.

    An image is suspect if it is predicted as another class, with at least the probability that
    images labeled as that class have on average. The larger the distance between the probabilities
    of both classes, the more doubtful is the label. The network must not have learned the labels
    from these images.
    """
    own = np.exp(-scores.loss)
    usual = _usual(scores.truth, own, int(scores.predicted.max(initial=0)) + 1)
    # Rounding can put a class of a single image below its own mean.
    sure = scores.confidence >= usual[scores.predicted] - 1e-9
    rows = np.flatnonzero(~scores.right & sure)
    order = rows[np.argsort(own[rows] - scores.confidence[rows], kind="stable")]
    return [
        Suspect(
            int(row),
            int(scores.truth[row]),
            int(scores.predicted[row]),
            float(own[row]),
            float(scores.confidence[row]),
        )
        for row in order
    ]


def _usual(
    truth: Int[np.ndarray, " n"], own: Float[np.ndarray, " n"], classes: int
) -> Float[np.ndarray, " classes"]:
    """Return the mean probability of each class for the images labeled as it; 1 without images."""
    images = np.bincount(truth, minlength=classes)
    return np.where(images, np.bincount(truth, own, classes) / np.maximum(images, 1), 1.0)


def write_suspects(
    path: Path, found: Sequence[Suspect], names: Sequence[str], place: Callable[[int], str]
) -> None:
    """Write a table of suspects as CSV, in their order.

    Args:
      names: of the classes.
      place: the place of an image in the data, by its row.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "label", "suggested", "label_probability", "suggested_probability"])
    for each in found:
        shares = f"{each.label_probability:.6f}", f"{each.suggested_probability:.6f}"
        writer.writerow([place(each.row), names[each.label], names[each.suggested], *shares])
    with writable(path):
        replace_text(path, text.getvalue())
