"""Trained networks from anywhere: runs, files, folders, published names, the hub."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from flax_resnet import weights
from flax_resnet.data.config import DataConfig
from flax_resnet.errors import InputError
from flax_resnet.steps.mesh import replicated
from flax_resnet.steps.tasks.distillation import Teacher
from flax_resnet.training.checkpoints import store
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.runs import Run, restore, restore_config
from flax_resnet.training.setup import Setup
from flax_resnet.weights import Description, Preprocessing, from_torch, to_torch


@dataclass(frozen=True)
class Origin:
    """Where a network comes from, and what is known of it before its weights are read.

    Attributes:
      source: the run's folder, published name, file, folder of weights or hub repository.
      config: the settings of the run; None where the source is not a run.
    """

    source: str
    description: Description
    config: TrainConfig | None = None

    @property
    def architecture(self) -> str:
        """Return the name of the network in the table of models.

        Raises:
          InputError: the source does not name it.
        """
        if self.description.architecture is None:
            raise InputError(
                f"{self.source} does not say which network it is for: set config.model.name"
            )
        return self.description.architecture

    @property
    def task(self) -> str:
        """Return `classification` or `segmentation`."""
        return "classification" if self.config is None else self.config.task

    def image_settings(self, test: bool = False) -> dict[str, Any]:
        """Return the fields of `DataConfig` that prepare images as the weights expect them.

        Arguments and errors are those of `flax_resnet.preprocessing`.
        """
        images = weights.known_preprocessing(self.description, self.source, test)
        channels = len(images.mean) if self.config is None else self.config.data.channels
        return dict(
            image_size=images.image_size,
            channels=channels,
            eval_crop=images.crop_fraction,
            interpolation=images.interpolation,
            mean=images.mean,
            std=images.std,
        )

    @property
    def data(self) -> DataConfig:
        """Return the data settings of the run, or those that prepare images for the weights."""
        return DataConfig(**self.image_settings()) if self.config is None else self.config.data


@dataclass(frozen=True)
class TrainedNetwork:
    """A network with its weights.

    Attributes:
      name: what tables and plots call it.
      class_names: the name of each output; () where they are not known.
      run: the run that the network comes from; None where the source is not a run.
    """

    origin: Origin
    name: str
    model: Any = field(repr=False)
    variables: dict[str, Any] = field(repr=False)
    class_names: tuple[str, ...]
    run: Run | None = None


def find_network(source: str | os.PathLike[str], revision: str | None = None) -> Origin:
    """Return what is known of a network, without reading or downloading its weights.

    Arguments and errors are those of `load_pretrained`.
    """
    name = os.fspath(source)
    if not _is_run(source):
        return Origin(name, weights.describe(source, revision))
    config = restore_config(source)
    data = config.data
    images = Preprocessing(
        data.test_size, data.eval_crop, data.interpolation, tuple(data.mean), tuple(data.std)
    )
    description = Description(
        config.model.name, config.model.num_classes, preprocessing=images, test_preprocessing=images
    )
    return Origin(name, description, config)


def open_network(
    source: str | os.PathLike[str],
    *,
    step: str | int | None = None,
    average: bool = True,
    mesh: Mesh | None = None,
    model: str | None = None,
    seed: int = 0,
    **changes: Any,
) -> TrainedNetwork:
    """Load a network with its weights, from whatever `load_pretrained` takes.

    Args:
      step: for a run, `best` (the default), `latest` or the number of a kept checkpoint; for a
        repository, its revision.
      average: for a run, load the average of its variables if it keeps one.
      mesh: devices that each get a copy of a run's variables; None takes all.
      model, seed, changes: as in `load_pretrained`.

    Raises:
      InputError: the source does not exist, cannot be reached or read, or is for another model.
    """
    changes = {key: value for key, value in changes.items() if value is not None}
    if not _is_run(source):
        revision = None if step in (None, "best") else str(step)
        network, variables, description = weights.open_weights(
            source, model=model, revision=revision, seed=seed, **changes
        )
        origin = Origin(os.fspath(source), description)
        names = weights.published_classes(origin.source, network.num_classes)
        return TrainedNetwork(origin, origin.source, network, variables, names)
    run = restore(source, step or "best", mesh, average)
    origin, network, variables = find_network(source), run.model, run.variables
    name = f"{run.config.model.name} of {run.workdir}, step {run.step}"
    if changes:
        network = network.clone(**changes)
        variables = from_torch(network, to_torch(run.model, variables), seed)
    names = run.class_names if network.num_classes == run.model.num_classes else ()
    return TrainedNetwork(origin, name, network, variables, names, run)


def load_pretrained(
    source: str | os.PathLike[str],
    *,
    model: str | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    revision: str | None = None,
    seed: int = 0,
    **overrides: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """Make a model and fill it with weights from the hub, from a file or from a run.

    Args:
      source: a published name (`list_pretrained` has them all), with or without `timm/`; another
        repository of the hub, `owner/name`; a file (`.safetensors`, `.pth`); a folder that
        `save_pretrained` wrote; or the folder of a run. A file or folder of that name takes
        precedence over the hub.
      model: the architecture, for files that do not name theirs.
      num_classes: default: as in the weights. Another number gives the model a fresh head, with a
        warning; 0 leaves the head out.
      in_channels: default: as in the weights. For another number the first convolution is adapted.
      revision: branch, tag or commit of the repository; for a run, its step (default: `best`).
      seed: initializes a fresh head.
      overrides: other arguments of `create_model`.

    Returns:
      The model, and `{"params": ..., "batch_stats": ...}` of float32 arrays.

    Raises:
      InputError: the source does not exist, cannot be reached or read, or is for another model.
    """
    changes = dict(overrides, num_classes=num_classes, in_channels=in_channels)
    network = open_network(source, step=revision, model=model, seed=seed, **changes)
    return network.model, network.variables


def starting_variables(setup: Setup) -> dict[str, Any]:
    """Return the variables of `config.model.pretrained`, a copy on every device.

    Raises:
      InputError: the weights are for another network than `config.model.name`.
    """
    config = setup.config
    source = config.model.pretrained or ""
    architecture = find_network(source).description.architecture or config.model.name
    if architecture != config.model.name:
        raise InputError(
            f"config.model.pretrained is {source!r}, which is for {architecture}, but "
            f"config.model.name is {config.model.name!r}: make them the same"
        )
    if _is_run(source):
        run = restore(source)
        state_dict = to_torch(run.model, run.variables)
    else:
        state_dict = weights.read_pretrained(source)[0]
    variables = from_torch(setup.model, state_dict, config.seed)
    return jax.device_put({"batch_stats": {}} | variables, replicated(setup.mesh))


def load_teacher(setup: Setup) -> Teacher | None:
    """Load `config.distill.teacher` onto every device; return None where there is none.

    It computes in the run's dtype. Its images are normalized as its source specifies, otherwise
    like the run's.

    Raises:
      InputError: the network does not exist, or it is for other images or classes.
    """
    config, source = setup.config, setup.config.distill.teacher
    if source is None:
        return None
    dtype = jnp.dtype(config.model.dtype)
    found = open_network(source, model=config.distill.model, dtype=dtype)
    for name, kind, wanted in (
        ("num_classes", "classes", config.model.num_classes),
        ("in_channels", "channels", config.data.channels),
    ):
        if getattr(found.model, name) != wanted:
            raise InputError(
                f"config.distill.teacher is {source!r}, which has {getattr(found.model, name)} "
                f"{kind}; expected {wanted}, as the run's model has"
            )
    mean, std = config.data.mean, config.data.std
    if (images := found.origin.description.preprocessing) is not None:
        mean, std = images.mean, images.std
    variables = jax.device_put(found.variables, replicated(setup.mesh))
    return Teacher(found.model, variables, mean, std)


def _is_run(source: str | os.PathLike[str]) -> bool:
    try:
        return (Path(source).expanduser() / store.FOLDER).is_dir()
    except (OSError, RuntimeError):  # a name too long, an unknown user
        return False
