"""The table of published weights: their networks, preprocessing and licenses."""

import csv
import fnmatch
import functools
import importlib.resources
import re
from collections import defaultdict
from dataclasses import dataclass

from flax_resnet.errors import InputError, require_known
from flax_resnet.weights.accuracies import Accuracy, accuracies_of

TABLE = "published.tsv"
# The account on the hub that has all of them.
OWNER = "timm/"
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# A folder's name may have words behind the WordNet number.
_WORDNET = re.compile(r"^(n\d{8})(?!\d).*$", re.DOTALL)


@dataclass(frozen=True)
class Preprocessing:
    """How to prepare images: resize to `image_size / crop_fraction`, crop the center, normalize.

    Attributes:
      image_size: height and width of the crop, in pixels.
      crop_fraction: the crop's share of the resized image's shorter side.
      interpolation: `bicubic` or `bilinear`.
      mean: subtracted from each channel, with values in 0..1.
      std: divisor of each channel after that.
    """

    image_size: int = 224
    crop_fraction: float = 0.875
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


@dataclass(frozen=True)
class Published:
    """One row of the table.

    Attributes:
      name: architecture and tag, as in `resnet50.a1_in1k`.
      num_classes: outputs of the head; 0 if the weights have no head.
      image_size: height and width in training.
      test_image_size: size at which the weights are more accurate than at `image_size`, if known.
      crop_fraction: the center crop's share of the resized image, at `image_size`.
      test_crop_fraction: the same at `test_image_size`; None: as at `image_size`.
      license: license that the authors state; None if they state none.
      origin: who trained the weights.
    """

    name: str
    num_classes: int
    image_size: int
    test_image_size: int | None
    crop_fraction: float
    test_crop_fraction: float | None
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    license: str | None
    origin: str

    @property
    def architecture(self) -> str:
        """Return the name of the network, the part before the dot."""
        return self.name.partition(".")[0]

    @property
    def tag(self) -> str:
        """Return the name of the training recipe, the part after the dot."""
        return self.name.partition(".")[2]

    @property
    def non_commercial(self) -> bool:
        """Return whether the license excludes commercial use."""
        return "-nc" in (self.license or "")

    @property
    def repository(self) -> str:
        """Return the name of the repository on the Hugging Face hub."""
        return OWNER + self.name

    def preprocessing(self, train_size: bool = False) -> Preprocessing:
        """Return the preprocessing at the test size, or with `train_size` at that of training."""
        size, crop = self.image_size, self.crop_fraction
        if not train_size:
            size, crop = self.test_image_size or size, self.test_crop_fraction or crop
        return Preprocessing(size, crop, self.interpolation, self.mean, self.std)

    def accuracy(self, train_size: bool = False) -> Accuracy | None:
        """Return the accuracies on images prepared by `preprocessing`; None: not measured."""
        images = self.preprocessing(train_size)
        prepared = (images.image_size, images.crop_fraction, images.interpolation)
        return accuracies_of(self.name).get(prepared)


def list_pretrained(pattern: str = "*") -> list[str]:
    """Return the sorted names that match a shell pattern such as `resnet50.*`."""
    return sorted(fnmatch.filter(_table(), pattern))


def find_published(name: str) -> Published:
    """Return the row of a name such as `resnet50.a1_in1k` or `timm/resnet50.a1_in1k`.

    Raises:
      InputError: the name is unknown; the message lists similar names, or an architecture's tags.
    """
    short = name.removeprefix(OWNER)
    tagged = list_pretrained(f"{short}.*")
    if tagged:
        raise InputError(
            f"{name!r} has {len(tagged)} published weights, which differ in their training: choose "
            f"one of {', '.join(tagged)}"
        )
    require_known("the name of published weights", short, _table())
    return _table()[short]


def imagenet_classes() -> tuple[str, ...]:
    """Return the names of ImageNet's 1,000 classes, in the order of their WordNet numbers."""
    return tuple(names for _, names in _imagenet())


def imagenet_class(name: str) -> int | None:
    """Return the number of the ImageNet class that a person calls `name`; None if there is none.

    Names are WordNet numbers, which other text may follow (`n02085620-Chihuahua`), and the words
    of `imagenet_classes`, one or all of them, with spaces or underscores. Words that two classes
    have, such as `crane`, stand for none.
    """
    return _imagenet_numbers().get(_WORDNET.sub(r"\1", name).replace("_", " ").casefold())


def published_classes(source: str, count: int) -> tuple[str, ...]:
    """Return the names of the `count` classes of published weights; () where they are not known."""
    if source.removeprefix(OWNER) not in _table():
        return ()
    if count == len(imagenet_classes()):
        return imagenet_classes()
    # No two sets of classes that weights were trained on have the same number of them.
    return next((names for names in _larger_imagenets() if len(names) == count), ())


@functools.cache
def _imagenet() -> list[tuple[str, str]]:
    """Return the WordNet number and the words of each class."""
    return [(number, words) for number, words in _rows("imagenet_classes.txt")]


@functools.cache
def _larger_imagenets() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the words of each class of Google's ImageNet-21k, and of its part ImageNet-12k.

    Numbers, words and the part follow timm's lists (Apache-2.0), in order of the numbers.
    """
    rows = _rows("imagenet21k_classes.txt")
    return tuple(row[1] for row in rows), tuple(row[1] for row in rows if row[2:] == ["12k"])


def _rows(file: str) -> list[list[str]]:
    text = importlib.resources.files("flax_resnet.weights").joinpath(file).read_text("utf-8")
    return [line.split("\t") for line in text.splitlines()]


@functools.cache
def _imagenet_numbers() -> dict[str, int]:
    firsts: dict[str, set[int]] = defaultdict(set)
    others: dict[str, set[int]] = defaultdict(set)
    for at, (number, words) in enumerate(_imagenet()):
        first, *rest = words.casefold().split(", ")
        for name in (number, words.casefold(), first):
            firsts[name].add(at)
        for name in rest:
            others[name].add(at)
    # The first word of one class, such as polecat, may be a later one of another.
    return {name: min(at) for name, at in (others | firsts).items() if len(at) == 1}


@functools.cache
def _table() -> dict[str, Published]:
    text = importlib.resources.files("flax_resnet.weights").joinpath(TABLE).read_text("utf-8")
    rows = csv.DictReader(text.splitlines(), delimiter="\t")
    return {row["name"]: _published(row) for row in rows}


def _published(row: dict[str, str]) -> Published:
    return Published(
        name=row["name"],
        num_classes=int(row["num_classes"]),
        image_size=int(row["image_size"]),
        test_image_size=int(row["test_image_size"]) if row["test_image_size"] else None,
        crop_fraction=float(row["crop_fraction"]),
        test_crop_fraction=float(row["test_crop_fraction"]) if row["test_crop_fraction"] else None,
        interpolation=row["interpolation"],
        mean=_numbers(row["mean"]),
        std=_numbers(row["std"]),
        license=row["license"] or None,
        origin=row["origin"],
    )


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(number) for number in text.split(","))
