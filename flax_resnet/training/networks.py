"""Trained networks from anywhere: runs, files, folders, published names, the hub."""

import dataclasses
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from flax_resnet import weights
from flax_resnet.data.config import DataConfig
from flax_resnet.errors import InputError, shortened
from flax_resnet.steps.mesh import replicated
from flax_resnet.steps.tasks.distillation import Teacher
from flax_resnet.steps.tasks.multilabel import parse_threshold
from flax_resnet.training.checkpoints import store
from flax_resnet.training.classes import class_outputs, matching
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.runs import Run, restore, restore_settings
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
        """Return `classification`, `multilabel` or `segmentation`."""
        if self.config is not None:
            return self.config.task
        return "classification" if self.description.threshold is None else "multilabel"

    def image_settings(self, train_size: bool = False) -> dict[str, Any]:
        """Return the fields of `DataConfig` that prepare images as the weights expect them.

        Arguments and errors are those of `flax_resnet.preprocessing`.
        """
        images = weights.known_preprocessing(self.description, self.source, train_size)
        channels = len(images.mean) if self.config is None else self.config.data.channels
        return dict(
            image_size=images.image_size,
            channels=channels,
            eval_crop=images.crop_fraction,
            interpolation=images.interpolation,
            mean=images.mean,
            std=images.std,
        )

    def data(self, train_size: bool = False) -> DataConfig:
        """Return the data settings of the run, or those that prepare images for the weights.

        Args:
          train_size: evaluate images of the size of training instead of the test size.

        Raises:
          InputError: there is no such size, because images are not resized or not described.
        """
        if self.config is None:
            return DataConfig(**self.image_settings(train_size))
        data = self.config.data
        if not train_size:
            return data
        if self.task == "segmentation":
            raise InputError(
                f"{self.source} is a run of segmentation, whose images are not resized: leave out "
                "--train-size"
            )
        return dataclasses.replace(data, eval_size=data.train_size)


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

    def threshold(self, asked: str | None = None) -> float:
        """Return the probability from which a class counts as predicted; 0: all are listed.

        Args:
          asked: a number, or `best`: the one with the best F1 on a run's evaluation split; None:
            as the run or the weights say.

        Raises:
          InputError: the network finds one class for an image, or no best threshold is known.
        """
        if self.origin.task != "multilabel":
            if asked is not None:
                raise InputError(
                    f"the threshold is {asked!r}, and {self.name} is a network for "
                    f"{self.origin.task}; expected none, because only networks that find several "
                    "classes in an image (config.task='multilabel') decide by it"
                )
            return 0.0
        given = None if asked is None else parse_threshold(asked)
        if given is not None:
            return given
        if self.run is not None:
            return self.run.threshold if asked is None else self.run.best_threshold
        if asked is None:
            return self.origin.description.threshold or 0.5
        raise InputError(
            f"the threshold is {asked!r}, and {self.name} is not a run, whose evaluation would "
            "have chosen one; expected a number"
        )


def find_network(source: str | os.PathLike[str], revision: str | None = None) -> Origin:
    """Return what is known of a network, without reading or downloading its weights.

    Arguments and errors are those of `load_pretrained`.
    """
    name = os.fspath(source)
    if not _is_run(source):
        return Origin(name, weights.describe(source, revision))
    config, names = restore_settings(source)
    data = config.data
    training, testing = (
        Preprocessing(size, data.eval_crop, data.interpolation, tuple(data.mean), tuple(data.std))
        for size in (data.train_size, data.test_size)
    )
    description = Description(
        config.model.name,
        config.model.num_classes,
        preprocessing=training,
        test_preprocessing=testing,
        class_names=names,
    )
    return Origin(name, description, config)


def open_network(
    source: str | os.PathLike[str],
    *,
    step: str | int | None = None,
    average: bool = True,
    mesh: Mesh | None = None,
    key: str | None = None,
    model: str | None = None,
    seed: int = 0,
    **changes: Any,
) -> TrainedNetwork:
    """Load a network with its weights, from whatever `load_pretrained` takes.

    Args:
      step: for a run, `best` (the default), `latest` or the number of a kept checkpoint; for a
        repository, its revision.
      average: load the average of a run's variables, or of a training script's checkpoint, if there
        is one.
      mesh: devices that each get a copy of a run's variables; None takes all.
      key, model, seed, changes: as in `load_pretrained`.

    Raises:
      InputError: the source does not exist, cannot be reached or read, or is for another model.
    """
    changes = {key: value for key, value in changes.items() if value is not None}
    if not _is_run(source):
        revision = None if step in (None, "best") else str(step)
        network, variables, description = weights.open_weights(
            source,
            model=model,
            revision=revision,
            key=key,
            average=average,
            seed=seed,
            **changes,
        )
        origin = Origin(os.fspath(source), description)
        names = description.names_of(network.num_classes)
        return TrainedNetwork(origin, origin.source, network, variables, names)
    refuse_key(source, key)
    run = restore(source, step or "best", mesh, average)
    origin, network, variables = find_network(source), run.model, run.variables
    name = f"{run.config.model.name} of {run.workdir}, step {run.step}"
    if changes:
        network = network.clone(**changes)
        variables = from_torch(network, to_torch(run.model, variables), seed)
    names = run.class_names if network.num_classes == run.model.num_classes else ()
    return TrainedNetwork(origin, name, network, variables, names, run)


def refuse_key(source: str | os.PathLike[str], key: str | None) -> None:
    """Raise `InputError` if a run is opened with a `key`, which names a part of a file."""
    if key is not None:
        raise InputError(
            f"{os.fspath(source)} is a run, and key is {key!r}, which names a part of a file: omit "
            "it. A checkpoint is chosen by its step"
        )


def load_pretrained(
    source: str | os.PathLike[str],
    *,
    model: str | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    revision: str | None = None,
    key: str | None = None,
    seed: int = 0,
    **overrides: Any,
) -> tuple[nn.Module, dict[str, Any]]:
    """Make a model and fill it with weights from the hub, from a file or from a run.

    Args:
      source: a published name (`list_pretrained` has them all), with or without `timm/`; another
        repository of the hub, `hub:OWNER/NAME` or `timm/NAME`; a file (`.safetensors`, `.pth`); a
        folder that `save_pretrained` wrote; or the folder of a run. A file or folder of that name
        takes precedence over the hub, and other names that look like paths are never looked up
        there.
      model: the architecture, for files that do not name theirs.
      num_classes: default: as in the weights. Another number gives the model a fresh head, with a
        warning; 0 leaves the head out.
      in_channels: default: as in the weights. For another number the first convolution is adapted.
      revision: branch, tag or commit of the repository; for a run, its step (default: `best`).
      key: the part of a file to take: a key of a checkpoint with several state dicts, keys joined
        by dots, or a prefix of arrays. Default: the average, if a training script stored one, as
        timm takes it.
      seed: initializes a fresh head.
      overrides: other arguments of `create_model`.

    Returns:
      The model, and `{"params": ..., "batch_stats": ...}` of float32 arrays.

    Raises:
      InputError: the source does not exist, cannot be reached or read, or is for another model.
    """
    changes = dict(overrides, num_classes=num_classes, in_channels=in_channels)
    network = open_network(source, step=revision, key=key, model=model, seed=seed, **changes)
    return network.model, network.variables


def class_names(source: str | os.PathLike[str], revision: str | None = None) -> tuple[str, ...]:
    """Return the name of each class of whatever `load_pretrained` takes; () if there are none.

    Arguments and errors are those of `load_pretrained`.
    """
    return find_network(source, revision).description.class_names


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
    key = config.model.pretrained_key
    if _is_run(source):
        refuse_key(source, key)
        run = restore(source)
        state_dict, names = to_torch(run.model, run.variables), run.class_names
    else:
        state_dict, found = weights.read_pretrained(source, key=key)
        state_dict = weights.strip_prefix(state_dict, weights.first_key(setup.model))
        names = found.names_of(len(state_dict.get(f"{setup.model.head_name}.weight", ())))
    with warnings.catch_warnings():
        state_dict = _with_head_of(setup, state_dict, names)
        variables = weights.to_variables(setup.model, state_dict, source, config.seed)
    return jax.device_put({"batch_stats": {}} | variables, replicated(setup.mesh))


def _with_head_of(
    setup: Setup, state_dict: dict[str, Any], names: tuple[str, ...]
) -> dict[str, Any]:
    """Return weights whose head has the outputs of the data's classes, in their order.

    A head that does not know all of them is left out, with a warning. Where the weights or the
    data have no names, it is returned as it is.
    """
    source = setup.train_source
    if not names or not source.named or source.class_names == names:
        return state_dict
    head = {key for key in state_dict if key.startswith(f"{setup.model.head_name}.")}
    found = matching(source.class_names, names)
    lost = [name for name, at in zip(source.class_names, found, strict=True) if at is None]
    if not lost and setup.config.model.num_classes == len(set(found)):
        return {key: value[found] if key in head else value for key, value in state_dict.items()}
    fresh = "its head is initialized at random"
    warnings.warn(
        f"{setup.config.model.pretrained} knows the classes {shortened(names)}, and not "
        f"{shortened(lost or source.class_names)} of the data: {fresh} and has to be trained",
        stacklevel=3,
    )
    warnings.filterwarnings("ignore", message=f"the weights are for 0 classes.*{fresh}")
    return {key: value for key, value in state_dict.items() if key not in head}


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
    found = open_network(source, key=config.distill.key, model=config.distill.model, dtype=dtype)
    if found.origin.task != "classification":
        raise InputError(
            f"config.distill.teacher is {source!r}, a network for {found.origin.task}; expected "
            "one for classification"
        )
    if found.model.in_channels != config.data.channels:
        raise InputError(
            f"config.distill.teacher is {source!r}, which has {found.model.in_channels} channels; "
            f"expected {config.data.channels}, as the run's model has"
        )
    mean, std, size = config.data.mean, config.data.std, None
    known = found.origin.description
    images = known.preprocessing if config.distill.size == "train" else known.test_preprocessing
    if images is not None:
        mean, std, size = images.mean, images.std, images.image_size
    variables = jax.device_put(found.variables, replicated(setup.mesh))
    size = None if config.distill.size == "student" else size
    return Teacher(found.model, variables, mean, std, size, _taught(setup, found))


def _taught(setup: Setup, teacher: TrainedNetwork) -> tuple[int, ...] | None:
    """Return the teacher's output for each of the run's; None where they are the same.

    Raises:
      InputError: the teacher does not know a class of the data, or the run has other outputs.
    """
    own, its = setup.config.model.num_classes, teacher.model.num_classes
    name = f"config.distill.teacher {setup.config.distill.teacher!r}"
    found = class_outputs(setup.train_source, teacher.class_names, its, name)
    if found == tuple(range(len(found))) and own == its:
        return None
    if own != len(found):
        raise InputError(
            f"config.model.num_classes is {own} and the run's data have {len(found)} classes; "
            f"expected the same, since {name} has others. Leave config.model.num_classes out"
        )
    return found


def _is_run(source: str | os.PathLike[str]) -> bool:
    try:
        return (Path(source).expanduser() / store.FOLDER).is_dir()
    except (OSError, RuntimeError):  # a name too long, an unknown user
        return False
