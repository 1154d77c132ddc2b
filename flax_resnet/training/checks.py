"""Checks of settings against each other, the data and the network."""

import functools
from collections.abc import Callable
from typing import Any

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
from flax_resnet.training.config import TrainConfig

# Settings that only some runs read: their names, whether a run reads them, and when it does.
# `TrainConfig` and `DataConfig` refuse other combinations as soon as they are made.
READ_WHERE: tuple[tuple[str, Callable[[TrainConfig], object], str], ...] = (
    (
        "loss label_smoothing",
        lambda c: c.distill.teacher is None or c.distill.weight < 1,
        "config.distill.weight is below 1",
    ),
    (
        "distill.model distill.key distill.size distill.temperature distill.weight distill.hard",
        lambda c: c.distill.teacher is not None,
        "config.distill.teacher is set",
    ),
    (
        "model.pretrained_key",
        lambda c: c.model.pretrained is not None,
        "config.model.pretrained is set",
    ),
    ("distill.temperature", lambda c: not c.distill.hard, "config.distill.hard is False"),
    (
        "mix.frequency mix.per",
        lambda c: c.mix.mixup or c.mix.cutmix,
        "config.mix.mixup or config.mix.cutmix is positive",
    ),
    (
        "mix.cutmix_frequency",
        lambda c: c.mix.mixup and c.mix.cutmix,
        "config.mix.mixup and config.mix.cutmix are positive",
    ),
    (
        "average.ema_warmup average.ema_from",
        lambda c: c.average.ema,
        "config.average.ema is positive",
    ),
    (
        "average.every",
        lambda c: c.average.kind,
        "config.average.ema or config.average.swa_from is set",
    ),
    (
        "data.crop data.interpolation data.eval_crop",
        lambda c: not c.data.source.startswith("masks:"),
        "config.data.source is not masks:PATH, whose images are not resized",
    ),
    (
        "data.crop_scale data.crop_ratio",
        lambda c: c.data.crop == "random_resized_crop" and not c.data.source.startswith("masks:"),
        "config.data.crop is 'random_resized_crop' and images are resized",
    ),
    (
        "data.crop_padding",
        lambda c: c.data.crop == "pad_crop" and not c.data.source.startswith("masks:"),
        "config.data.crop is 'pad_crop'",
    ),
    ("data.max_errors", lambda c: c.data.on_error == "skip", "config.data.on_error is 'skip'"),
    (
        "data.data_dir",
        lambda c: c.data.source.startswith("tfds:"),
        "config.data.source is tfds:NAME",
    ),
)


def check_unread(config: TrainConfig) -> None:
    """Raise `InputError` where a setting is changed that a run of this config does not read."""
    defaults = TrainConfig()
    for names, is_read, where in READ_WHERE:
        for name in names.split():
            found, default = _setting(config, name), _setting(defaults, name)
            if found != default and not is_read(config):
                raise InputError(
                    f"config.{name} is {found!r}, but this run does not use it: it is used where "
                    f"{where}. Expected the default, {default!r}"
                )


def _setting(config: Any, name: str) -> Any:
    return functools.reduce(getattr, name.split("."), config)


def check_task(source: Source, task: str, several_labels: bool = False) -> None:
    """Raise `InputError` unless the source has masks where the task needs them, and only there.

    Args:
      several_labels: images may have more or fewer labels than one.
    """
    if has_several_labels(source) and not several_labels:
        raise InputError(
            f"{source.name} has any number of labels for an image; expected one. Such data can be "
            "evaluated (python -m flax_resnet eval), but not trained on or sorted by class"
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
    """Raise `InputError` if a network would learn to tell one class from nothing else."""
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
