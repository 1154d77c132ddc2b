"""Settings that only some runs read; elsewhere they do nothing, and are refused by name."""

import functools
from collections.abc import Callable
from typing import Any

from flax_resnet.errors import InputError
from flax_resnet.steps.tasks.classification import own_loss_named
from flax_resnet.steps.updates.optimizers import own_optimizer
from flax_resnet.training.config import TrainConfig

# Their names, whether a run reads them, and when it does. `TrainConfig` and `DataConfig` refuse
# other combinations as soon as they are made.
READ_WHERE: tuple[tuple[str, Callable[[TrainConfig], object], str], ...] = (
    (
        "loss label_smoothing class_weights",
        lambda c: c.distill.teacher is None or c.distill.weight < 1,
        "config.distill.weight is below 1",
    ),
    ("threshold", lambda c: c.task == "multilabel", "config.task is 'multilabel'"),
    (
        "label_smoothing class_weights",
        lambda c: own_loss_named(c.loss) is None,
        "config.loss is 'softmax' or 'sigmoid'",
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
        "early_stopping.min_delta",
        lambda c: c.early_stopping.patience is not None,
        "config.early_stopping.patience is set",
    ),
    (
        "average.every",
        lambda c: c.average.kind,
        "config.average.ema or config.average.swa_from is set",
    ),
    (
        "optimizer.momentum optimizer.nesterov",
        lambda c: c.optimizer.name in ("sgd", "rmsprop_tf", "lars", "muon"),
        "config.optimizer.name is 'sgd', 'rmsprop_tf', 'lars' or 'muon'",
    ),
    (
        "optimizer.b1 optimizer.b2",
        lambda c: c.optimizer.name in ("adamw", "lamb", "muon"),
        "config.optimizer.name is 'adamw', 'lamb' or 'muon'",
    ),
    (
        "optimizer.epsilon",
        lambda c: c.optimizer.name not in ("sgd", "lars"),
        "config.optimizer.name is not 'sgd' or 'lars'",
    ),
    (
        "optimizer.alpha",
        lambda c: c.optimizer.name == "rmsprop_tf",
        "config.optimizer.name is 'rmsprop_tf'",
    ),
    ("optimizer.trust", lambda c: c.optimizer.name == "lars", "config.optimizer.name is 'lars'"),
    (
        "optimizer.vector_rate",
        lambda c: c.optimizer.name == "muon",
        "config.optimizer.name is 'muon'",
    ),
    (
        "schedule.boundaries schedule.factor",
        lambda c: c.schedule.name == "step",
        "config.schedule.name is 'step'",
    ),
    (
        "schedule.power",
        lambda c: c.schedule.name == "polynomial",
        "config.schedule.name is 'polynomial'",
    ),
    (
        "schedule.end_rate",
        lambda c: c.schedule.name not in ("step", "constant"),
        "config.schedule.name is not 'step' or 'constant'",
    ),
    (
        "schedule.unit",
        lambda c: c.schedule.warmup or c.schedule.name == "step",
        "config.schedule.warmup is positive or config.schedule.name is 'step'",
    ),
    (
        "schedule.warmup_start",
        lambda c: c.schedule.warmup or c.schedule.name == "one_cycle",
        "config.schedule.warmup is positive or config.schedule.name is 'one_cycle'",
    ),
    (
        "schedule.decay_from",
        lambda c: c.schedule.warmup and c.schedule.name in ("cosine", "linear", "polynomial"),
        "config.schedule.warmup is positive and config.schedule.name is 'cosine', 'linear' or "
        "'polynomial'",
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
    (
        "data.on_error",
        lambda c: c.data.source.partition(":")[0] != "synthetic",
        "config.data.source is not synthetic, which has no files",
    ),
    (
        "data.transform",
        lambda c: not c.data.source.startswith("masks:"),
        "config.data.source is not masks:PATH",
    ),
    ("data.max_errors", lambda c: c.data.on_error == "skip", "config.data.on_error is 'skip'"),
    (
        "data.data_dir",
        lambda c: c.data.source.partition(":")[0] in ("tfds", "hf", "digits"),
        "config.data.source is tfds:NAME, hf:OWNER/NAME or digits",
    ),
    (
        "data.follow_links",
        lambda c: c.data.source.partition(":")[0] in ("folder", "csv", "masks"),
        "config.data.source is folder:PATH, csv:PATH or masks:PATH",
    ),
    (
        "data.masks.elastic_spacing",
        lambda c: c.data.masks.elastic,
        "config.data.masks.elastic is positive",
    ),
    (
        "data.masks.border_sigma",
        lambda c: c.data.masks.border_weight,
        "config.data.masks.border_weight is positive",
    ),
    (
        "data.augment.operations data.augment.magnitude data.augment.probability "
        "data.augment.increasing",
        lambda c: c.data.augment.policy == "rand",
        "config.data.augment.policy is 'rand'",
    ),
    (
        "data.augment.magnitude_std data.augment.magnitude_max",
        lambda c: c.data.augment.policy in ("rand", "auto", "auto_paper"),
        "config.data.augment.policy is 'rand', 'auto' or 'auto_paper'",
    ),
    ("data.augment.fill", lambda c: c.data.augment.policy, "config.data.augment.policy is set"),
    (
        "data.augment.jitter_probability",
        lambda c: any(c.data.augment.jitter),
        "config.data.augment.jitter is not zero",
    ),
    (
        "data.augment.blur_radius",
        lambda c: c.data.augment.blur,
        "config.data.augment.blur is positive",
    ),
    (
        "data.augment.erase_mode data.augment.erase_scale data.augment.erase_ratio",
        lambda c: c.data.augment.erase,
        "config.data.augment.erase is positive",
    ),
)


def unread_settings(config: TrainConfig) -> dict[str, str]:
    """Return the settings that a run of this config does not read, with where runs read them."""
    return {
        name: where
        for names, is_read, where in READ_WHERE
        if not is_read(config)
        for name in names.split()
        # A user-defined optimizer may read whatever it likes.
        if not (name.startswith("optimizer.") and own_optimizer(config.optimizer.name))
    }


def check_unread(config: TrainConfig) -> None:
    """Raise `InputError` where a setting is changed that a run of this config does not read."""
    defaults = TrainConfig()
    for name, where in unread_settings(config).items():
        found, default = _setting(config, name), _setting(defaults, name)
        if found != default:
            raise InputError(
                f"config.{name} is {found!r}, but this run does not use it: it is used where "
                f"{where}. Expected the default, {default!r}"
            )


def _setting(config: Any, name: str) -> Any:
    return functools.reduce(getattr, name.split("."), config)
