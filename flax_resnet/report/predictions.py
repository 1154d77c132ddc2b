"""Predict every image of a split: its confusion matrix and the most confident mistakes."""

import contextlib
import heapq
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from flax_resnet.data import Source, eval_batches, open_source
from flax_resnet.data.sources.source import Example
from flax_resnet.inference.confusion import Confusion
from flax_resnet.inference.predictor import Predictor
from flax_resnet.steps.mesh import data_mesh
from flax_resnet.steps.tasks.confusion import count_confusion
from flax_resnet.training.classes import for_outputs
from flax_resnet.training.evaluation import divisible_eval_batch
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
    """The image's place in its source."""
    pixels: UInt8[np.ndarray, "h w c"]
    """The image as the network receives it."""


@dataclass(frozen=True)
class SplitPredictions:
    """A network's predictions for a split.

    Attributes:
      confusion: images of each true class (rows) by predicted class (columns).
      mistakes: the most confident mistakes, in decreasing order of confidence.
      images: size of the split; the matrix counts at most `MAX_IMAGES` of them, evenly spread.
    """

    split: str
    confusion: Confusion
    mistakes: list[ConfidentMistake]
    images: int


def predict_split(run: Run, max_images: int = MAX_IMAGES, shown: int = SHOWN) -> SplitPredictions:
    """Predict the images of a run's test split, or of its evaluation split if it has no test split.

    Images that cannot be decoded are left out if the run's data settings skip them.

    Args:
      shown: how many mistakes to keep.
    """
    data, split = run.config.data, default_split(run.config.data)
    source = for_outputs(
        open_source(data, split), run.class_names, run.model.num_classes, str(run.workdir)
    )
    predictor = Predictor(str(run.workdir), run.model, run.variables, data, run.class_names)
    classes = run.model.num_classes
    confusion = np.zeros((classes, classes), np.int64)
    mistakes: list[ConfidentMistake] = []
    places = np.linspace(0, len(source), min(len(source), max_images), endpoint=False).astype(int)
    sample = _Sample(source, tuple(places.tolist()))
    start = 0
    with contextlib.closing(
        eval_batches(sample, divisible_eval_batch(data, data_mesh()))
    ) as batches:
        for batch in batches:
            images, truth, counted = batch["image"], batch["label"], batch["mask"].astype(bool)
            probabilities = predictor.probabilities(images)
            predicted = probabilities.argmax(-1)
            confusion += np.asarray(count_confusion(truth, predicted, counted, classes))
            wrong = [
                ConfidentMistake(
                    float(probabilities[row, predicted[row]]),
                    int(truth[row]),
                    int(predicted[row]),
                    sample.describe(start + int(row)),
                    images[row],
                )
                for row in np.flatnonzero(counted & (predicted != truth))
            ]
            mistakes = heapq.nlargest(shown, [*mistakes, *wrong], key=lambda each: each.probability)
            start += len(counted)
    return SplitPredictions(split, confusion, mistakes, len(source))


@dataclass(frozen=True)
class _Sample:
    """Some examples of a source."""

    source: Source
    places: tuple[int, ...]

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def num_classes(self) -> int:
        return self.source.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.source.class_names

    @property
    def named(self) -> bool:
        return self.source.named

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Example:
        return self.source[self.places[index]]

    def describe(self, index: int) -> str:
        return self.source.describe(self.places[index])
