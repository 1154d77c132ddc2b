"""The datasets that experiments know by name, and how they are opened."""

import dataclasses
import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from flax_resnet.data import DataConfig, Source, open_source
from flax_resnet.data.batches.loading import EvalLoader
from flax_resnet.steps.gradient import normalize
from flax_resnet.training.checks import check_task


def _gray(source: str, size: int, mean: float, std: float) -> DataConfig:
    """Return settings without augmentation, so that training errors depend only on the network."""
    return DataConfig(
        source=source,
        test_split="test",
        image_size=size,
        channels=1,
        crop="none",
        flip=False,
        eval_crop=1.0,
        mean=(mean,),
        std=(std,),
    )


DATASETS = {
    "digits": _gray("digits", 8, 0.3, 0.38),
    "mnist": _gray("tfds:mnist", 28, 0.1307, 0.3081),
    "fashion_mnist": _gray("tfds:fashion_mnist", 28, 0.286, 0.353),
    "cifar10": DataConfig(
        source="tfds:cifar10",
        test_split="test",
        image_size=32,
        crop="pad_crop",
        eval_crop=1.0,
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.247, 0.2435, 0.2616),
    ),
}


@dataclass(frozen=True)
class Dataset:
    """The training and the test images of an experiment."""

    config: DataConfig
    train: Source
    test: Source


@functools.lru_cache(maxsize=2)
def open_dataset(config: DataConfig) -> Dataset:
    """Open both splits; small images are decoded once and kept."""
    test_split = config.test_split or config.eval_split
    train, test = (open_source(config, split) for split in (config.train_split, test_split))
    for source in (train, test):
        check_task(source, "classification")
    return Dataset(config, train, test)


def first_images(data: Dataset, count: int, split: str = "train") -> tuple[jax.Array, jax.Array]:
    """Return the first images of `train` or `test`, normalized, and their labels.

    Sources are shuffled, folders too, so the first images are of all classes.
    """
    source = data.train if split == "train" else data.test
    count = min(count, len(source))
    batch = EvalLoader(source, dataclasses.replace(data.config, eval_batch_size=count))(0)
    images = normalize(jnp.asarray(batch["image"]), data.config.mean, data.config.std)
    return images, jnp.asarray(batch["label"])
