"""Predict every image of a split: its metrics, confusion matrix and most confident mistakes."""

import contextlib
import dataclasses
import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from flax_resnet.data import Source, eval_batches, open_source
from flax_resnet.data.sources.source import Example
from flax_resnet.data.sources.subsets import competing_outputs
from flax_resnet.inference.confusion import Confusion
from flax_resnet.steps.mesh import data_mesh, device_rows, put_batch, replicated
from flax_resnet.steps.step import make_eval_step
from flax_resnet.steps.tasks.classification import classification_sums
from flax_resnet.steps.tasks.confusion import count_confusion
from flax_resnet.steps.tasks.table import CLASSIFICATION
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
    """The image's place in the data."""
    pixels: UInt8[np.ndarray, "h w c"]
    """The image as the network receives it."""


@dataclass(frozen=True)
class SplitPredictions:
    """A network's predictions for a split.

    Attributes:
      metrics: loss, top1 and top5 of the images that the matrix counts.
      confusion: images of each true class (rows) by predicted class (columns).
      mistakes: the most confident mistakes, in decreasing order of confidence.
      images: size of the split; the matrix counts at most `MAX_IMAGES` of them, evenly spread.
    """

    split: str
    metrics: dict[str, float]
    confusion: Confusion
    mistakes: list[ConfidentMistake]
    images: int


def predict_split(run: Run, max_images: int = MAX_IMAGES, shown: int = SHOWN) -> SplitPredictions:
    """Predict the images of a run's test split, or of its evaluation split if it has no test split.

    Images that cannot be decoded are left out if the run's data settings skip them.

    Args:
      shown: how many mistakes to keep.
    """
    data, split, mesh = run.config.data, default_split(run.config.data), data_mesh()
    source = for_outputs(
        open_source(data, split), run.class_names, run.model.num_classes, str(run.workdir)
    )
    sample = Sample.of(source, max_images)
    # The program of the evaluation, so that the page and `eval` agree.
    task = dataclasses.replace(CLASSIFICATION, sums=_sums_and_probabilities)
    step = make_eval_step(
        run.model,
        mesh,
        mean=data.mean,
        std=data.std,
        task=task,
        flip=data.eval_flip,
        outputs=competing_outputs(source, data.source, run.model.num_classes),
    )
    variables = jax.device_put(dict(run.variables), replicated(mesh))
    confusion = np.zeros((run.model.num_classes,) * 2, np.int64)
    totals: dict[str, np.ndarray] = {}
    mistakes: list[ConfidentMistake] = []
    start = 0
    with contextlib.closing(eval_batches(sample, divisible_eval_batch(data, mesh))) as batches:
        for batch in batches:
            found = jax.device_get(step(variables, put_batch(device_rows(batch), mesh)))
            probabilities, predicted = found.pop("probabilities"), found.pop("predicted")
            for key, value in found.items():
                totals[key] = totals.get(key, np.zeros(())) + np.asarray(value, np.float64)
            images, truth, counted = batch["image"], batch["label"], batch["mask"].astype(bool)
            confusion += np.asarray(count_confusion(truth, predicted, counted, len(confusion)))
            wrong = [
                ConfidentMistake(
                    float(probabilities[row]),
                    int(truth[row]),
                    int(predicted[row]),
                    sample.place(start + int(row)),
                    images[row],
                )
                for row in np.flatnonzero(counted & (predicted != truth))
            ]
            mistakes = heapq.nlargest(shown, [*mistakes, *wrong], key=lambda each: each.probability)
            start += len(counted)
    metrics = CLASSIFICATION.metrics(totals, source.class_names)
    return SplitPredictions(split, metrics, confusion, mistakes, len(source))


def _sums_and_probabilities(
    logits: Float[Array, "n classes"], batch: Mapping[str, jax.Array]
) -> dict[str, jax.Array]:
    probabilities, predicted = jax.lax.top_k(jax.nn.softmax(logits), 1)
    found = {"probabilities": probabilities[:, 0], "predicted": predicted[:, 0]}
    return classification_sums(logits, batch) | found


@dataclass(frozen=True)
class Sample:
    """Some examples of a source."""

    source: Source
    places: tuple[int, ...]

    @classmethod
    def of(cls, source: Source, most: int) -> "Sample":
        """Return at most so many examples, evenly spread over the source."""
        spread = np.linspace(0, len(source), min(len(source), most), endpoint=False)
        return cls(source, tuple(spread.astype(int).tolist()))

    @property
    def name(self) -> str:
        """Return the source's name."""
        return self.source.name

    @property
    def num_classes(self) -> int:
        """Return the source's number of classes."""
        return self.source.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the source's names of classes."""
        return self.source.class_names

    @property
    def named(self) -> bool:
        return self.source.named

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.places)

    def __getitem__(self, index: int) -> Example:
        """Return an example."""
        return self.source[self.places[index]]

    def describe(self, index: int) -> str:
        """Return the origin of an example."""
        return self.source.describe(self.places[index])

    def place(self, index: int) -> str:
        """Return where an example is in the data."""
        return self.source.place(self.places[index])
