"""What a network makes of every picture of a split: which classes it mixes up, and how surely."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from flax_resnet.data import DataConfig, Source, eval_batches, open_source
from flax_resnet.data.sources.source import Example
from flax_resnet.inference.confusion import Confusion
from flax_resnet.inference.predictor import Predictor
from flax_resnet.steps.mesh import data_mesh
from flax_resnet.training.evaluation import divisible_eval_batch
from flax_resnet.training.runs import Run, default_split

# A report is to be there soon; so many pictures say where a network errs.
MOST = 10_000
SHOWN = 24


class Mistaken(NamedTuple):
    """A picture that was taken for another class."""

    probability: float
    """Of the class it was taken for."""
    truth: int
    found: int
    where: str
    pixels: UInt8[np.ndarray, "h w c"]
    """The picture as the network saw it."""


@dataclass(frozen=True)
class Judged:
    """A split as a network sees it.

    Attributes:
      confusion: pictures of each class (rows), by what they were taken for (columns).
      mistakes: those that the network was surest of, the surest first.
      pictures: how many the split has; the matrix counts at most `MOST` of them, evenly spread.
    """

    split: str
    confusion: Confusion
    mistakes: list[Mistaken]
    pictures: int


def judge(run: Run, most: int = MOST, shown: int = SHOWN) -> Judged:
    """Show a run the pictures of its test split, or of its evaluation split where it has none."""
    data, split = run.config.data, default_split(run.config.data)
    source = open_source(data, split)
    predictor = Predictor(str(run.workdir), run.model, run.variables, data, run.class_names)
    confusion = np.zeros((run.model.num_classes,) * 2, np.int64)
    mistakes: list[Mistaken] = []
    places = np.linspace(0, len(source), min(len(source), most), endpoint=False).astype(int)
    sample = _Sample(source, tuple(places.tolist()))
    for index, pixels, truth, chances in _judgements(predictor, sample, data):
        found = int(chances.argmax())
        confusion[truth, found] += 1
        if found != truth:
            where = sample.describe(index)
            mistake = Mistaken(float(chances[found]), truth, found, where, pixels)
            mistakes = heapq.nlargest(shown, [*mistakes, mistake], key=lambda each: each[0])
    return Judged(split, confusion, mistakes, len(source))


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

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Example:
        return self.source[self.places[index]]

    def describe(self, index: int) -> str:
        return self.source.describe(self.places[index])


def _judgements(
    predictor: Predictor, source: Source, data: DataConfig
) -> Iterator[tuple[int, np.ndarray, int, np.ndarray]]:
    """Yield index, pixels, class and probabilities of every example that can be decoded."""
    start = 0
    batches = eval_batches(source, divisible_eval_batch(data, data_mesh()))
    with contextlib.closing(batches):
        for batch in batches:
            chances = predictor.probabilities(batch["image"])
            for row in np.flatnonzero(batch["mask"]):
                yield start + int(row), batch["image"][row], int(batch["label"][row]), chances[row]
            start += len(batch["mask"])
