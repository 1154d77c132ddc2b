"""Which settings of what is learned go together."""

from typing import Any

from flax_resnet.errors import InputError, require_known
from flax_resnet.training.tasks.classification import LOSSES
from flax_resnet.training.tasks.table import TASKS


def check_learning(config: Any) -> None:
    """Raise `InputError` unless the settings of task and loss of a `TrainConfig` go together."""
    if not 0 <= config.label_smoothing < 1:
        raise InputError(f"config.label_smoothing is {config.label_smoothing}; expected 0 to 1")
    require_known("config.task", config.task, TASKS)
    require_known("config.loss", config.loss, LOSSES)
    if config.dice_weight < 0 or (config.dice_weight and config.task != "segmentation"):
        raise InputError(
            f"config.dice_weight is {config.dice_weight}; expected a positive number, or 0 where "
            "config.task is not 'segmentation'"
        )
    if config.accumulate < 1:
        raise InputError(f"config.accumulate is {config.accumulate}; expected at least 1")
    threshold = config.target_threshold
    if threshold is not None and not (0 <= threshold < 1 and config.loss == "sigmoid"):
        raise InputError(
            f"config.target_threshold is {threshold}; expected 0 or more and below 1, or None "
            "where config.loss is not 'sigmoid'"
        )
    if config.task == "segmentation":
        _check_segmentation(config)


def _check_segmentation(config: Any) -> None:
    for name, value, expected in (
        ("loss", config.loss, "softmax"),
        ("mix.mixup", config.mix.mixup, 0.0),
        ("mix.cutmix", config.mix.cutmix, 0.0),
        ("distill.teacher", config.distill.teacher, None),
        # Its loss is a mean over the pixels of the whole batch that count, and parts have
        # different numbers of them.
        ("accumulate", config.accumulate, 1),
    ):
        if value != expected:
            raise InputError(
                f"config.{name} is {value!r}; expected {expected!r} where config.task is "
                "'segmentation'"
            )
