"""The parts of a run, made from its settings: data, batches, model, optimizer, length."""

import dataclasses
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import optax
from jax.sharding import Mesh

from flax_resnet.data import MaskSource, Source, train_batches
from flax_resnet.data.batches.in_memory import load_evaluation, load_training
from flax_resnet.data.batches.mask_loading import train_loader
from flax_resnet.data.images.transforms import Transform, find_transform
from flax_resnet.data.sources.labels import balanced_members
from flax_resnet.data.sources.open import OWN, is_own_source
from flax_resnet.data.sources.source import pinned_name
from flax_resnet.errors import InputError
from flax_resnet.models import Network, create_model
from flax_resnet.models.variants import argument_types, own_model
from flax_resnet.onednn.choice import choose_kernels
from flax_resnet.steps.averages import Averaging, make_averaging
from flax_resnet.steps.gradient import check_accumulation
from flax_resnet.steps.mesh import check_batch_size, data_mesh
from flax_resnet.steps.tasks.classification import own_loss
from flax_resnet.steps.tasks.distillation import distilled_loss
from flax_resnet.steps.tasks.table import TASKS, Loss
from flax_resnet.steps.updates.groups import check_pattern
from flax_resnet.steps.updates.optimizers import make_optimizer
from flax_resnet.steps.updates.schedules import make_schedule
from flax_resnet.training.balance import check_balance, weights_of_classes
from flax_resnet.training.checks import (
    check_classes,
    check_pairs,
    check_several_classes,
    check_sizes,
    check_task,
)
from flax_resnet.training.config import ModelConfig, TrainConfig
from flax_resnet.training.logging.writers import find_writer
from flax_resnet.training.on_device import DeviceData, check_room, make_take
from flax_resnet.training.parts import Parts, check_own_model, check_workers, fingerprints
from flax_resnet.training.unread import check_unread


class Stream(Iterator[Any], Protocol):
    """An iterator of batches; close it to end the threads and processes that load them."""

    def close(self) -> object:
        """End the threads or processes that load batches, if there are any."""
        ...


@dataclass(frozen=True)
class Setup:
    """The parts of a run; `config` has every choice filled in that the data decides."""

    config: TrainConfig
    mesh: Mesh
    model: Network
    train_source: Source
    eval_source: Source
    optimizer: optax.GradientTransformation
    rate: optax.Schedule | None
    steps: int
    steps_per_epoch: float
    parts: Parts = field(default_factory=Parts)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprints of the user-defined parts of this run; {} without any."""
        return fingerprints(self.config, self.parts, self.train_source, self.eval_source)

    @property
    def loss(self) -> Loss:
        """Return `(logits, batch) -> (loss, accuracy)` of the run's task."""
        task, distill = TASKS[self.config.task], self.config.distill
        settings: dict[str, Any] = {name: getattr(self.config, name) for name in task.settings}
        if self.class_weights:
            settings["class_weights"] = self.class_weights
        loss = functools.partial(task.loss, **settings)
        if self.parts.loss is not None:
            loss = functools.partial(own_loss, function=self.parts.loss)
        if distill.teacher is None:
            return loss
        return functools.partial(distilled_loss, loss=loss, config=distill)

    @functools.cached_property
    def class_weights(self) -> tuple[float, ...]:
        """Return the weight of each output's class in the loss; () if all have the same."""
        return weights_of_classes(self.config, self.train_source)

    @property
    def transform(self) -> Transform | None:
        """Return the user-defined transform of training images, given or named by the settings."""
        return self.parts.transform or find_transform(self.config.data)

    @property
    def averaging(self) -> Averaging | None:
        """Return how the variables are averaged over updates; None if they are not."""
        return make_averaging(self.config.average, self.steps_per_epoch)

    @functools.cached_property
    def training_device_data(self) -> DeviceData | None:
        """Return the training images on the devices, or None where the host loads batches."""
        data = self.config.data
        if not data.on_device:
            return None
        take = make_take(self.mesh, data, self.config.seed)
        return DeviceData(load_training(self.train_source, data), self.mesh, take)

    @functools.cached_property
    def evaluation_device_data(self) -> DeviceData | None:
        """Return the evaluation's images on the devices, or None where the host loads batches."""
        data = self.config.data
        if not data.on_device:
            return None
        return DeviceData(load_evaluation(self.eval_source, data), self.mesh, make_take(self.mesh))

    def training_batches(self, start: int, count: int) -> Stream:
        """Return this process's rows of training batches `start` to `start + count - 1`."""
        config = self.config
        if self.training_device_data is not None:
            numbers = range(start, start + count)
            members = balanced_members(self.train_source, config.data)
            return self.training_device_data.training(config.data, config.seed, numbers, members)
        return train_batches(
            self.train_source,
            config.data,
            seed=config.seed,
            start_batch=start,
            num_batches=count,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
            transform=self.parts.transform,
        )

    def training_batch(self, number: int) -> dict[str, Any]:
        """Return this process's rows of one training batch, loaded in this thread."""
        if self.training_device_data is not None:
            return next(self.training_batches(number, 1))
        config = self.config
        load = train_loader(
            self.train_source,
            config.data,
            config.seed,
            jax.process_index(),
            jax.process_count(),
            self.parts.transform,
        )
        return dict(load(number))


def prepare_run(config: TrainConfig, mesh: Mesh | None = None, parts: Parts | None = None) -> Setup:
    """Open the data, make the parts that `config` names, and check that they fit together.

    Args:
      parts: those that are given, in place of what `config` names.

    Raises:
      InputError: two settings, or a setting and the data, contradict each other.
    """
    check_unread(config)
    mesh, parts = mesh or data_mesh(), parts or Parts()
    config = parts.settle(config)
    train_source = parts.open_source(config, config.data.train_split)
    config = _completed(config, train_source, mesh, parts)
    data = config.data
    steps_per_epoch = len(train_source) / data.batch_size
    steps = config.steps or math.ceil(config.epochs * steps_per_epoch)
    freeze_steps = (
        None if config.freeze_epochs is None else round(config.freeze_epochs * steps_per_epoch)
    )
    rate = make_schedule(config.schedule, steps, steps_per_epoch, data.batch_size)
    setup = Setup(
        config=config,
        mesh=mesh,
        model=_model(config, parts),
        train_source=train_source,
        eval_source=parts.open_source(config, data.eval_split),
        optimizer=make_optimizer(
            config.optimizer,
            rate,
            config.freeze,
            freeze_steps,
            parts.make_optimizer(rate),
        ),
        rate=None if parts.whole_optimizer else rate,
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        parts=parts,
    )
    _check(setup)
    return setup


def _completed(config: TrainConfig, source: Source, mesh: Mesh, parts: Parts) -> TrainConfig:
    """Fill in what data and devices decide: classes, values in masks, revisions, CPU kernels."""
    num_classes = config.model.num_classes or source.num_classes
    if parts.model is not None:
        num_classes = parts.model.num_classes
    data = config.data
    if isinstance(source, MaskSource):
        masks = dataclasses.replace(data.masks, values=source.values)
        data = dataclasses.replace(data, masks=masks)
    if pinned := pinned_name(source):
        data = dataclasses.replace(data, source=pinned)
    model = dataclasses.replace(config.model, num_classes=num_classes)
    kernels = choose_kernels(mesh, config.cpu_kernels)
    return dataclasses.replace(config, model=model, data=data, cpu_kernels=kernels)


def _check(setup: Setup) -> None:
    config, model = setup.config, setup.model
    check_task(setup.train_source, config.task)
    check_several_classes(setup.train_source, config.task)
    check_balance(config, setup.train_source)
    check_batch_size(config.data.batch_size, setup.mesh)
    for source in (setup.train_source, setup.eval_source):
        check_classes(source, config.model.num_classes or 0)
    check_room(config.data, len(setup.train_source), len(setup.eval_source), setup.mesh)
    if setup.parts.model is not None or own_model(config.model.name):
        check_own_model(model, config)
    # The network without frozen norms, because it would read a pattern that may be invalid.
    plain = model.clone(frozen="") if hasattr(model, "frozen") else model
    check_pattern("config.freeze", config.freeze, plain, leaves_some=True)
    check_pattern("config.freeze_norms", getattr(model, "frozen", ""), plain)
    check_sizes(model, config.data, setup.train_source)
    if is_own_source(config.data.source):
        workers = config.data.workers
        check_workers(workers, source=setup.train_source, evaluation_source=setup.eval_source)
    check_workers(config.data.workers, transform=setup.transform)
    find_writer(config)
    group = getattr(model, "norm_group", None)
    check_accumulation(config.data.batch_size, config.accumulate, group)
    check_pairs(config.data.batch_size, config.mix, config.data.augment.repeats)


def _model(config: TrainConfig, parts: Parts) -> Network:
    """Return the run's network, with the norms frozen that the settings name."""
    data = config.data
    model = parts.model or build_model(config.model, data.channels, data.image_size)
    frozen = config.freeze if config.freeze_norms is None else config.freeze_norms
    return model.clone(frozen=frozen) if hasattr(model, "frozen") else model


def build_model(config: ModelConfig, channels: int, image_size: int) -> Network:
    """Make the model that `config` names, for images of this shape."""
    if config.name.startswith(f"{OWN}:"):
        raise InputError(
            f"config.model.name is {config.name!r}: the network was given to train(model=...), and "
            "only register_model makes it known by a name. Pass it as model= here too"
        )
    arguments: dict[str, Any] = dict(config.arguments)
    if config.num_classes is not None:
        arguments["num_classes"] = config.num_classes
    given = {"dtype": config.dtype, "in_channels": channels, "image_size": image_size}
    if own_model(config.name):  # it may have none of these fields
        given = {key: given[key] for key in given.keys() & argument_types(config.name).keys()}
    return create_model(config.name, **given, **arguments)
