"""Find the training images that look most alike to the network."""

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from flax_resnet.data import Source, eval_batches
from flax_resnet.data.sources.sample import Sample
from flax_resnet.inference.predictor import Predictor
from flax_resnet.steps.mesh import data_mesh
from flax_resnet.training.evaluation import divisible_eval_batch
from flax_resnet.training.runs import Run

# Each costs a forward pass; more would hardly show anything else.
MAX_IMAGES = 1_000
SHOWN = 3


class Neighbor(NamedTuple):
    """A training image."""

    label: int
    where: str
    """The image's place in the data."""
    pixels: UInt8[np.ndarray, "h w c"]
    """The image as the network receives it."""


def nearest_images(
    run: Run,
    train: Source,
    images: Sequence[np.ndarray],
    most: int = MAX_IMAGES,
    shown: int = SHOWN,
) -> list[list[Neighbor]]:
    """Return the nearest training images of each image, the nearest first.

    Images are as near as the angle between their features, the channels of the last stage averaged
    over the image, is small.

    Args:
      train: the source of the training images.
      images: as the network receives them.
      most: how many training images are looked at, evenly spread over the source.
    """
    if not images or not hasattr(run.model, "features"):
        return [[] for _ in images]
    data, mesh, sample = run.config.data, data_mesh(), Sample.of(train, most)
    predictor = Predictor(str(run.workdir), run.model, run.variables, data, mesh=mesh)
    queries = _directions(predictor.features(np.stack(images)))
    likeness = [np.zeros((len(images), 0))]
    with contextlib.closing(eval_batches(sample, divisible_eval_batch(data, mesh))) as batches:
        for batch in batches:
            found = queries @ _directions(predictor.features(batch["image"])).T
            likeness.append(np.where(batch["mask"].astype(bool), found, -np.inf))
    near = np.concatenate(likeness, axis=1)
    order = np.argsort(-near, axis=1, kind="stable")[:, :shown]
    return [
        [_neighbor(sample, at, predictor) for at in row.tolist() if np.isfinite(near[query, at])]
        for query, row in enumerate(order)
    ]


def _neighbor(sample: Sample, at: int, predictor: Predictor) -> Neighbor:
    example = sample[at]
    return Neighbor(
        int(np.asarray(example["label"])), sample.place(at), predictor.prepare(example["image"])
    )


def _directions(features: np.ndarray) -> np.ndarray:
    """Return vectors (n, channels) of length one."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
