"""From settings to the parts of a run: data, model, optimiser, length."""

import dataclasses
import functools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from flax_resnet.data import DataConfig, MaskSource, Source, open_source
from flax_resnet.data.batches.in_memory import load_evaluation, load_training
from flax_resnet.data.batches.resolution import sizes_of
from flax_resnet.data.positions import position_of_row
from flax_resnet.errors import InputError
from flax_resnet.models import Network, create_model
from flax_resnet.steps.averages import Averaging, make_averaging
from flax_resnet.steps.gradient import check_accumulation
from flax_resnet.steps.mesh import check_batch_size, data_mesh
from flax_resnet.steps.mixing import NEIGHBOURS, MixConfig, partners
from flax_resnet.steps.tasks.distillation import distilled_loss
from flax_resnet.steps.tasks.table import TASKS, Loss
from flax_resnet.steps.updates.groups import check_pattern
from flax_resnet.steps.updates.optimizers import make_optimizer
from flax_resnet.steps.updates.schedules import make_schedule
from flax_resnet.training.config import ModelConfig, TrainConfig
from flax_resnet.training.on_device import DeviceData, check_room, make_take


@dataclass(frozen=True)
class Setup:
    """The parts of a run; `config` has every choice filled in that the data decides."""

    config: TrainConfig
    mesh: Mesh
    model: Network
    train_source: Source
    eval_source: Source
    optimizer: optax.GradientTransformation
    rate: optax.Schedule
    steps: int
    steps_per_epoch: float

    @property
    def loss(self) -> Loss:
        """Return `(logits, batch) -> (loss, accuracy)` of the run's task."""
        task, distill = TASKS[self.config.task], self.config.distill
        settings = {name: getattr(self.config, name) for name in task.settings}
        loss = functools.partial(task.loss, **settings)
        if distill.teacher is None:
            return loss
        return functools.partial(distilled_loss, loss=loss, config=distill)

    @property
    def averaging(self) -> Averaging | None:
        """Return how the variables are averaged over updates, where they are."""
        return make_averaging(self.config.average, self.steps_per_epoch)

    @functools.cached_property
    def held_training(self) -> DeviceData | None:
        """Send the training images to the devices, where the config wants them there."""
        data = self.config.data
        if not data.on_device:
            return None
        take = make_take(self.mesh, data, self.config.seed)
        return DeviceData(load_training(self.train_source, data), self.mesh, take)

    @functools.cached_property
    def held_evaluation(self) -> DeviceData | None:
        """Send the evaluation's images to the devices, where the config wants them there."""
        data = self.config.data
        if not data.on_device:
            return None
        in_memory = load_evaluation(self.eval_source, data)
        return DeviceData(in_memory, self.mesh, make_take(self.mesh))


def prepare_run(config: TrainConfig, mesh: Mesh | None = None) -> Setup:
    """Open the data and make the parts that `config` names.

    Raises:
      InputError: two settings, or a setting and the data, contradict each other.
    """
    mesh = mesh or data_mesh()
    check_batch_size(config.data.batch_size, mesh)
    train_source = open_source(config.data, config.data.train_split)
    check_task(train_source, config.task)
    num_classes = config.model.num_classes or train_source.num_classes
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, num_classes=num_classes),
        data=_with_values(config.data, train_source),
    )
    eval_source = open_source(config.data, config.data.eval_split)
    check_classes(train_source, num_classes)
    check_classes(eval_source, num_classes)
    check_room(config.data, len(train_source), len(eval_source), mesh)
    steps_per_epoch = len(train_source) / config.data.batch_size
    steps = config.steps or math.ceil(config.epochs * steps_per_epoch)
    model = _build_for_training(config)
    check_sizes(model, config.data, train_source)
    group = getattr(model, "norm_group", None)
    check_accumulation(config.data.batch_size, config.accumulate, group)
    check_pairs(config.data.batch_size, config.mix, config.data.augment.repeats)
    rate = make_schedule(config.schedule, steps, steps_per_epoch, config.data.batch_size)
    freeze_steps = (
        None if config.freeze_epochs is None else round(config.freeze_epochs * steps_per_epoch)
    )
    return Setup(
        config=config,
        mesh=mesh,
        model=model,
        train_source=train_source,
        eval_source=eval_source,
        optimizer=make_optimizer(config.optimizer, rate, config.freeze, freeze_steps),
        rate=rate,
        steps=steps,
        steps_per_epoch=steps_per_epoch,
    )


def _with_values(data: DataConfig, source: Source) -> DataConfig:
    """Write down which values of masks stand for the classes: a run has to give them back."""
    if not isinstance(source, MaskSource):
        return data
    return dataclasses.replace(data, masks=dataclasses.replace(data.masks, values=source.values))


def _build_for_training(config: TrainConfig) -> Network:
    model = build_model(config.model, config.data.channels, config.data.image_size)
    frozen = config.freeze if config.freeze_norms is None else config.freeze_norms
    check_pattern("config.freeze", config.freeze, model, leaves_some=True)
    check_pattern("config.freeze_norms", frozen, model)
    return model.clone(frozen=frozen)


def build_model(config: ModelConfig, channels: int, image_size: int) -> Network:
    """Make the model that `config` names, for images of this shape."""
    arguments = {
        key: value for key, value in dataclasses.asdict(config).items() if value is not None
    }
    name = arguments.pop("name")
    arguments.pop("pretrained", None)
    return create_model(name, in_channels=channels, image_size=image_size, **arguments)


def check_task(source: Source, task: str) -> None:
    """Raise `InputError` unless the source has masks where the task needs them, and only there."""
    if isinstance(source, MaskSource) != (task == "segmentation"):
        expected = "masks:PATH" if task == "segmentation" else "a class for each image"
        raise InputError(
            f"config.task is {task!r}, for which {source.name} is no data: set "
            f"config.data.source to one of {expected}, or change config.task"
        )


def check_sizes(model: Network, data: DataConfig, source: Source) -> None:
    """Raise `InputError` unless the network can take images of every size that the data has."""
    if isinstance(source, MaskSource) and data.eval_size is not None:
        raise InputError(
            f"config.data.eval_size is {data.eval_size}; expected None for {source.name}: images "
            "with masks are evaluated whole"
        )
    for setting, sizes in sizes_of(data).items():
        for size in sizes:
            images = jnp.zeros((1, size, size, data.channels))
            try:
                jax.eval_shape(functools.partial(model.init, jax.random.key(0)), images)
            except InputError as error:
                raise InputError(f"config.data.{setting}: {error}") from None


def check_classes(source: Source, num_classes: int) -> None:
    """Raise `InputError` if the source has labels that the model has no output for."""
    if source.num_classes > num_classes:
        raise InputError(
            f"{source.name} has {source.num_classes} classes, the model {num_classes} outputs: "
            "set config.model.num_classes, or leave it out to take the data's"
        )


def check_pairs(batch_size: int, config: MixConfig, repeats: int = 1) -> None:
    """Raise `InputError` where an image is mixed and has no partner, or itself as its partner.

    Args:
      repeats: of an example in its batch; see `config.data.augment`.
    """
    if not config.active:
        return
    if batch_size % 2:
        raise InputError(
            f"config.data.batch_size is {batch_size}; expected an even number, for config.mix "
            "mixes images in pairs"
        )
    held = np.array([position_of_row(0, row, batch_size, repeats) for row in range(batch_size)])
    # So near each other, two positions hold the same example in this batch, or in one that begins
    # in the middle of an example's repeats.
    if (abs(held - partners(held)) < repeats).any():
        raise InputError(
            f"config.data.batch_size is {batch_size} and config.data.augment.repeats is {repeats}; "
            "expected a batch so large that config.mix mixes no image with a repeat of itself: "
            f"take {NEIGHBOURS * repeats} images or more, or fewer repeats"
        )
