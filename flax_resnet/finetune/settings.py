"""Settings for fine-tuning on a user's images, chosen by their number and the weights."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from flax_resnet.data.config import BALANCED, SHUFFLED, DataConfig
from flax_resnet.errors import InputError
from flax_resnet.models import create_model
from flax_resnet.steps.averages import AverageConfig
from flax_resnet.steps.tasks.classification import EQUAL
from flax_resnet.steps.updates.config import OptimizerConfig, ScheduleConfig
from flax_resnet.training.config import ModelConfig, TrainConfig
from flax_resnet.training.networks import find_network, refuse_key

# Of the loss, or of how often images are shown.
BALANCES = ("none", "weights", "sampling")
SCRATCH_MODEL = "resnet18"
# Networks for images up to this size are evaluated on whole images.
_SMALL_IMAGES = 64
# In the first epochs from random weights the running statistics of norms lag so far behind that the
# loss of an evaluation can be a thousand times that of training: so many batches measure them anew.
_MEASURED = 20
# Approximate number of evaluations, each with a checkpoint.
_EVALUATIONS = 20


@dataclass(frozen=True)
class Counts:
    """Number of images in each split."""

    train: int
    validation: int
    test: int = 0


@dataclass(frozen=True)
class Start:
    """How to train from pretrained or random weights.

    Attributes:
      pictures: total number of images to see, within the bounds of `epochs`.
      rate: peak learning rate for batches of 32.
      warmup: fraction of the run.
      head_first: fraction of the run in which only the head trains.
      layer_decay, freeze_norms: see `OptimizerConfig` and `TrainConfig`.
    """

    pictures: int
    epochs: tuple[int, int]
    rate: float
    warmup: float
    head_first: float
    weight_decay: float
    layer_decay: float
    freeze_norms: str | None


# The gradients of an untrained head are noise to the body, so the head first learns alone
# (arXiv:2202.10054), within the same run and its warm-up: one curve and one folder suffice, and a
# run resumes as usual. Layers need to change by different amounts, so their rates differ.
# Statistics of norms over a handful of images are worse than those of the weights.
_PRETRAINED = Start(8_000, (5, 40), 0.02, 0.15, 0.1, 1e-4, 0.7, ".*")
_SCRATCH = Start(60_000, (30, 200), 0.05, 0.05, 0.0, 5e-4, 1.0, None)
# Parts of every classification network except its head.
_BODY = r"stem|layer\d+"


def _task(several_labels: bool) -> dict[str, Any]:
    if several_labels:
        # Smoothing binary targets moves probabilities, and so the decisions at a threshold.
        return dict(task="multilabel", loss="sigmoid", label_smoothing=0.0)
    return dict(task="classification", loss="softmax", label_smoothing=0.1)


def finetune_config(
    source: str,
    counts: Counts,
    weights: str | None,
    *,
    model: str | None = None,
    key: str | None = None,
    epochs: float | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    rate: float | None = None,
    balance: str | None = None,
    seed: int = 0,
    devices: int = 1,
    several_labels: bool = False,
) -> TrainConfig:
    """Return the settings of a run that starts from `weights`; arguments of None are chosen.

    Args:
      source: as in `config.data.source`, with the splits that `counts` counts.
      weights: what `load_pretrained` takes; None: random ones.
      key: the part of a file of weights, as in `load_pretrained`.
      batch_size: limited by the number of training images.
      rate: peak learning rate of the head, not scaled with the batch.
      balance: how classes of different sizes are balanced, one of `BALANCES`; None: not.
      devices: a chosen batch size is a multiple of this number.
      several_labels: an image can have any number of classes.

    Raises:
      InputError: the weights or the network are unknown or for another task.
    """
    start = _SCRATCH if weights is None else _PRETRAINED
    network, images = _network(weights, model, key)
    if image_size is not None:
        images["image_size"] = image_size
    batch = fitting_batch(counts.train, batch_size, devices)
    if epochs is None:
        least, most = start.epochs
        epochs = float(min(max(math.ceil(start.pictures / counts.train), least), most))
    images |= {"sampling": BALANCED if balance == "sampling" else SHUFFLED}
    return TrainConfig(
        **_task(several_labels),
        seed=seed,
        epochs=epochs,
        class_weights=BALANCED if balance == "weights" else EQUAL,
        freeze=_BODY if start.head_first else "",
        freeze_epochs=start.head_first * epochs if start.head_first else None,
        freeze_norms=start.freeze_norms,
        eval_every_epochs=max(epochs / _EVALUATIONS, 1.0),
        average=AverageConfig(
            precise_batches=0 if weights else min(_MEASURED, math.ceil(counts.train / batch))
        ),
        log_every=max(min(counts.train // batch, 50), 1),
        model=network,
        data=_data(source, counts, batch, images),
        optimizer=_optimizer(start),
        schedule=ScheduleConfig(
            learning_rate=start.rate if rate is None else rate,
            scale_for=32 if rate is None else None,
            warmup=start.warmup * epochs,
        ),
    )


def _optimizer(start: Start) -> OptimizerConfig:
    return OptimizerConfig(
        nesterov=True,
        weight_decay=start.weight_decay,
        decay_norms=False,
        layer_decay=start.layer_decay,
    )


def _network(
    weights: str | None, model: str | None, key: str | None
) -> tuple[ModelConfig, dict[str, Any]]:
    """Return the settings of the network, and those of its images."""
    if weights is not None:
        return _from_weights(weights, model, key)
    if key is not None:
        raise InputError(f"key is {key!r}, but there are no weights that it could be a part of")
    return _from_scratch(model)


def _data(source: str, counts: Counts, batch: int, others: dict[str, Any]) -> DataConfig:
    return DataConfig(
        source=source,
        # The table lists images that the user named, wherever they are.
        follow_links=True,
        train_split="train",
        eval_split="validation",
        test_split="test" if counts.test else None,
        batch_size=batch,
        eval_batch_size=min(counts.validation, 64),
        crop_scale=(0.35, 1.0),
        # All were readable when they were split; one that is damaged later need not end the run.
        on_error="skip",
        **others,
    )


def balance_of(config: TrainConfig) -> str:
    """Return which of `BALANCES` a run uses."""
    if config.class_weights == BALANCED:
        return "weights"
    return "sampling" if config.data.sampling == BALANCED else "none"


def fitting_batch(pictures: int, wanted: int | None, devices: int = 1) -> int:
    """Return the wanted batch size, or one from 8 to 64 that gives about ten updates per epoch.

    It does not exceed the number of images, unless there are fewer images than devices.
    """
    if wanted is not None and wanted <= pictures:
        return wanted
    chosen = wanted or min(max(2 ** int(math.log2(max(pictures / 10, 1))), 8), 64)
    return max(min(chosen, pictures) // devices, 1) * devices


def _from_weights(
    weights: str, model: str | None, key: str | None
) -> tuple[ModelConfig, dict[str, Any]]:
    """Return the network that weights are for, and how their images are prepared."""
    origin = find_network(weights)
    if origin.task == "segmentation":
        raise InputError(f"{weights} is a run of {origin.task}; expected a run of classification")
    if origin.config is None:
        network = ModelConfig(model or origin.architecture, pretrained=weights, pretrained_key=key)
    else:  # with the run's own arguments, since its weights fit no other network
        refuse_key(weights, key)
        network = dataclasses.replace(
            origin.config.model, num_classes=None, pretrained=weights, pretrained_key=None
        )
        network = network if model is None else dataclasses.replace(network, name=model)
    return network, origin.image_settings(train_size=True)


def _from_scratch(model: str | None) -> tuple[ModelConfig, dict[str, Any]]:
    name = model or SCRATCH_MODEL
    size = create_model(name).image_size
    images: dict[str, Any] = {"image_size": size}
    if size <= _SMALL_IMAGES:
        images["eval_crop"] = 1.0
    return ModelConfig(name), images
