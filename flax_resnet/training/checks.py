"""Checks of settings against each other, the data and the network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from flax_resnet.data import DataConfig, MaskSource, Source
from flax_resnet.data.batches.loading import sizes_of
from flax_resnet.data.positions import position_of_row
from flax_resnet.data.sources.source import has_several_labels
from flax_resnet.errors import InputError, shortened
from flax_resnet.models import Network
from flax_resnet.steps.mixing import NEIGHBOURS, MixConfig, partners


def check_task(source: Source, task: str, several_labels: bool = False) -> None:
    """Raise `InputError` unless the source has the labels that the task needs.

    Args:
      several_labels: with one class for each image to find, more or fewer may be right.
    """
    several = has_several_labels(source)
    if task == "multilabel" and not several:
        raise InputError(
            f"config.task is 'multilabel', but the images of {source.name} have one label each; "
            "expected csv:TABLE with a column 'labels', or another config.task"
        )
    if several and task != "multilabel" and not several_labels:
        raise InputError(
            f"{source.name} has any number of labels for an image; expected one. A network that "
            "finds all of them is trained with config.task='multilabel' and config.loss='sigmoid'; "
            "one that finds one class can be evaluated on such data, but not trained on them"
        )
    if isinstance(source, MaskSource) != (task == "segmentation"):
        expected = "masks:PATH" if task == "segmentation" else "a class for each image"
        raise InputError(
            f"config.task is {task!r}, which does not fit the data {source.name}: set "
            f"config.data.source to one of {expected}, or change config.task"
        )


def check_sizes(model: Network, data: DataConfig, source: Source) -> None:
    """Raise `InputError` unless the network can take images of every size that the data has."""
    if isinstance(source, MaskSource) and data.eval_size is not None:
        raise InputError(
            f"config.data.eval_size is {data.eval_size}; expected None for {source.name}: images "
            "with masks are not resized"
        )
    for setting, sizes in sizes_of(data).items():
        for size in sizes:
            images = jnp.zeros((1, size, size, data.channels))
            try:
                jax.eval_shape(functools.partial(model.init, jax.random.key(0)), images)
            except InputError as error:
                raise InputError(f"config.data.{setting}: {error}") from None


def check_several_classes(source: Source, task: str) -> None:
    """Raise `InputError` if the data have only one class."""
    if task == "classification" and source.num_classes < 2:
        raise InputError(
            f"{source.name} has the class {shortened(source.class_names)} alone; expected two or "
            "more. Images of something else can be a class"
        )


def check_classes(source: Source, num_classes: int) -> None:
    """Raise `InputError` if the source has labels that the model has no output for."""
    if source.num_classes > num_classes:
        raise InputError(
            f"{source.name} has {source.num_classes} classes, the model {num_classes} outputs: "
            "set config.model.num_classes, or leave it out to use the data's"
        )


def check_pairs(batch_size: int, config: MixConfig, repeats: int = 1) -> None:
    """Raise `InputError` if mixing would leave an image without a partner other than itself.

    Args:
      repeats: how often an example is in its batch; see `config.data.augment`.
    """
    if not config.active:
        return
    if batch_size % 2:
        raise InputError(
            f"config.data.batch_size is {batch_size}; expected an even number, because "
            "config.mix mixes images in pairs"
        )
    places = np.array([position_of_row(0, row, batch_size, repeats) for row in range(batch_size)])
    # Positions this close have the same example in this batch, or in one that begins
    # in the middle of an example's repeats.
    if (abs(places - partners(places)) < repeats).any():
        raise InputError(
            f"config.data.batch_size is {batch_size} and config.data.augment.repeats is {repeats}; "
            "expected a batch large enough that config.mix mixes no image with a repeat of itself: "
            f"use at least {NEIGHBOURS * repeats} images, or fewer repeats"
        )
