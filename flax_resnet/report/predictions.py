"""Predict every image of a split: its metrics, confusion matrix and most confident mistakes."""

import heapq
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from flax_resnet.data import Source
from flax_resnet.data.sources.sample import Sample
from flax_resnet.inference.calibration import FITTED_IMAGES, NoTemperatureError, fit_temperature
from flax_resnet.inference.confusion import Confusion, count_pairs
from flax_resnet.inference.measures import measures
from flax_resnet.inference.scores import (
    ScoredBatch,
    Scores,
    open_labeled,
    score_split,
    scored_batches,
)
from flax_resnet.training.runs import Run, default_split

# A report should not take long, and this many images show where a network errs.
MAX_IMAGES = 10_000
SHOWN = 24


class ConfidentMistake(NamedTuple):
    """A misclassified image."""

    probability: float
    """The probability of the predicted class."""
    truth: int
    predicted: int
    where: str
    """The image's place in the data."""
    pixels: UInt8[np.ndarray, "h w c"]
    """The image as the network receives it."""


@dataclass(frozen=True)
class SplitPredictions:
    """A network's predictions for a split.

    Attributes:
      metrics: the `measures` of the images that the matrix counts.
      confusion: images of each true class (rows) by predicted class (columns).
      mistakes: the most confident mistakes, in decreasing order of confidence.
      images: size of the split; the matrix counts at most `MAX_IMAGES` of them, evenly spread.
      sample: the images that the matrix counts, and those that cannot be decoded.
      scores: the answers for the images that the matrix counts.
      places: the position of each of them in the sample.
      calibrated: the answers at the temperature that fits the validation images.
      temperature: None where there is none: the split is that of the validation images, or none
        fits.
    """

    split: str
    metrics: dict[str, float]
    confusion: Confusion
    mistakes: list[ConfidentMistake]
    images: int
    sample: Sample
    scores: Scores
    places: np.ndarray
    calibrated: Scores
    temperature: float | None


def predict_split(run: Run, max_images: int = MAX_IMAGES, shown: int = SHOWN) -> SplitPredictions:
    """Predict the images of a run's test split, or of its evaluation split if it has no test split.

    Images that cannot be decoded are left out if the run's data settings skip them.

    Args:
      shown: how many mistakes to keep.
    """
    split, classes = default_split(run.config.data), run.model.num_classes
    source = _open(run, split)
    sample = Sample.of(source, max_images)
    temperature = _temperature(run)
    mistakes: list[ConfidentMistake] = []
    places: list[np.ndarray] = []
    start = 0

    def look(batch: ScoredBatch, scores: Scores) -> None:
        nonlocal mistakes, start
        rows = np.flatnonzero(batch.counted)
        places.append(start + rows)
        wrong = [
            ConfidentMistake(
                float(scores.confidence[at]),
                int(scores.truth[at]),
                int(scores.predicted[at]),
                sample.place(start + int(rows[at])),
                batch.images[rows[at]],
            )
            for at in np.flatnonzero(~scores.right)
        ]
        mistakes = heapq.nlargest(shown, [*mistakes, *wrong], key=lambda each: each.probability)
        start += len(batch.counted)

    batches = scored_batches(run.model, run.variables, sample, run.config.data, outputs_of=source)
    scores, calibrated = score_split(batches, temperature or 1.0, look)
    return SplitPredictions(
        split,
        measures(scores, classes),
        count_pairs(scores, classes),
        mistakes,
        len(source),
        sample,
        scores,
        np.concatenate(places),
        calibrated,
        temperature,
    )


def _open(run: Run, split: str) -> Source:
    return open_labeled(run.config.data, split, run.class_names, run.model, str(run.workdir))


def _temperature(run: Run) -> float | None:
    """Return the temperature that fits the validation images, where others are predicted."""
    data = run.config.data
    if data.test_split is None or data.test_split == data.eval_split:
        return None
    source = _open(run, data.eval_split)
    sample = Sample.of(source, FITTED_IMAGES)
    batches = scored_batches(run.model, run.variables, sample, data, outputs_of=source)
    try:
        return fit_temperature(batches, source.name)
    except NoTemperatureError:  # The page shows the probabilities as they are.
        return None
