"""Accuracies of published weights on ImageNet and on five other test sets of its classes.

timm measured them: `results/results-imagenet*.csv` of
https://github.com/huggingface/pytorch-image-models (Apache-2.0), copied on 2026-11-28 into
accuracies.tsv.
"""

import csv
import functools
import importlib.resources
from dataclasses import dataclass

TABLE = "accuracies.tsv"
_OTHERS = ("real", "v2", "a", "r", "sketch")
# An image size, a crop fraction and an interpolation.
_Images = tuple[int, float, str]


@dataclass(frozen=True)
class Accuracy:
    """Accuracies of one set of weights at one input size, in percent; None: not measured.

    Attributes:
      image_size: height and width of the images, in pixels.
      top1: on ImageNet's 50,000 validation images.
      top5: the same, with the right class among the first five.
      real: top-1 with the labels of ImageNet-ReaL (arXiv:2006.07159).
      v2: top-1 on ImageNet-V2, matched frequency (arXiv:1902.10811).
      a: top-1 on ImageNet-A, among its 200 classes (arXiv:1907.07174).
      r: top-1 on ImageNet-R, among its 200 classes (arXiv:2006.16241).
      sketch: top-1 on ImageNet-Sketch (arXiv:1905.13549).
    """

    image_size: int
    top1: float
    top5: float
    real: float | None
    v2: float | None
    a: float | None
    r: float | None
    sketch: float | None


def accuracies_of(name: str) -> dict[_Images, Accuracy]:
    """Return the accuracies of published weights by how the images were prepared."""
    return _table().get(name, {})


@functools.cache
def _table() -> dict[str, dict[_Images, Accuracy]]:
    text = importlib.resources.files("flax_resnet.weights").joinpath(TABLE).read_text("utf-8")
    table: dict[str, dict[_Images, Accuracy]] = {}
    for row in csv.DictReader(text.splitlines(), delimiter="\t"):
        size = int(row["image_size"])
        images = (size, float(row["crop_fraction"]), row["interpolation"])
        others = {key: float(row[key]) if row[key] else None for key in _OTHERS}
        found = Accuracy(size, float(row["top1"]), float(row["top5"]), **others)
        table.setdefault(row["name"], {})[images] = found
    return table
