"""Models with weights from anywhere: the hub, files, or runs of this library."""

import os
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from flax_resnet import weights
from flax_resnet.errors import InputError
from flax_resnet.steps.mesh import replicated
from flax_resnet.steps.tasks.distillation import Teacher
from flax_resnet.training.checkpoints import store
from flax_resnet.training.runs import restore, restore_config
from flax_resnet.training.setup import Setup
from flax_resnet.weights import from_torch, to_torch


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
        `save_pretrained` wrote; or the folder of a run. What is there under that name goes before
        the hub.
      model: the architecture, for files that do not name theirs.
      num_classes: default: as in the weights. Another number gives the model a fresh head, and a
        warning says so; 0 leaves the head out.
      in_channels: default: as in the weights. For another number the first convolution is adapted.
      revision: branch, tag or commit of the repository; of a run the step (default: `best`).
      seed: what a fresh head starts from.
      overrides: other arguments of `create_model`.

    Returns:
      The model, and `{"params": ..., "batch_stats": ...}` of float32 arrays.

    Raises:
      InputError: the source does not exist, cannot be reached or read, or is for another model.
    """
    changes = dict(overrides, num_classes=num_classes, in_channels=in_channels)
    if not is_run(source):
        return weights.load_pretrained(source, model=model, revision=revision, seed=seed, **changes)
    run = restore(source, revision or "best")
    chosen = {key: value for key, value in changes.items() if value is not None}
    network = run.model.clone(**chosen)
    return network, from_torch(network, to_torch(run.model, run.variables), seed)


def is_run(source: str | os.PathLike[str]) -> bool:
    """Say whether `source` is the folder of a run."""
    try:
        return (Path(source).expanduser() / store.FOLDER).is_dir()
    except (OSError, RuntimeError):  # a name too long, an unknown user: no folder of a run
        return False


def architecture_of(source: str | os.PathLike[str]) -> str:
    """Return the name of the network that weights are for.

    Raises:
      InputError: there are no such weights, or nothing is written down about their network.
    """
    if is_run(source):
        return restore_config(source).model.name
    architecture = weights.describe(source).architecture
    if architecture is None:
        raise InputError(f"nothing says which network {source} is for: set config.model.name")
    return architecture


def data_settings(source: str | os.PathLike[str], test: bool = False) -> dict[str, Any]:
    """Return the fields of `DataConfig` that prepare images as weights expect them.

    Arguments and errors are those of `flax_resnet.preprocessing`.
    """
    if is_run(source):
        data = restore_config(source).data
        names = ("channels", "eval_crop", "interpolation", "mean", "std")
        return {"image_size": data.test_size} | {name: getattr(data, name) for name in names}
    images = weights.preprocessing(source, test)
    return dict(
        image_size=images.image_size,
        channels=len(images.mean),
        eval_crop=images.crop_fraction,
        interpolation=images.interpolation,
        mean=images.mean,
        std=images.std,
    )


def starting_variables(setup: Setup) -> dict[str, Any]:
    """Return the variables of `config.model.pretrained`, a copy on every device.

    Raises:
      InputError: the weights are for another network than `config.model.name`.
    """
    config, state_dict = setup.config, None
    source = config.model.pretrained or ""
    if is_run(source):
        run = restore(source)
        architecture, state_dict = run.config.model.name, to_torch(run.model, run.variables)
    else:
        architecture = weights.describe(source).architecture or config.model.name
    if architecture != config.model.name:
        raise InputError(
            f"config.model.pretrained is {source!r}, which is for {architecture}, but "
            f"config.model.name is {config.model.name!r}: make them the same"
        )
    if state_dict is None:
        state_dict = weights.read_pretrained(source)[0]
    variables = from_torch(setup.model, state_dict, config.seed)
    return jax.device_put({"batch_stats": {}} | variables, replicated(setup.mesh))


def load_teacher(setup: Setup) -> Teacher | None:
    """Load `config.distill.teacher`, a copy on every device; None where there is none.

    It computes in the run's dtype. Where nothing says how its images are normalised, they are as
    the run's.

    Raises:
      InputError: there is no such network, or it is for other images or another number of classes.
    """
    config, source = setup.config, setup.config.distill.teacher
    if source is None:
        return None
    dtype = jnp.dtype(config.model.dtype)
    model, variables = load_pretrained(source, model=config.distill.model, dtype=dtype)
    for name, wanted in (
        ("num_classes", config.model.num_classes),
        ("in_channels", config.data.channels),
    ):
        found = getattr(model, name)
        if found != wanted:
            kind = {"num_classes": "classes", "in_channels": "channels"}[name]
            raise InputError(
                f"config.distill.teacher is {source!r}, which has {found} {kind}; expected "
                f"{wanted}, as the run's model has"
            )
    mean, std = config.data.mean, config.data.std
    try:
        images = data_settings(source)
        mean, std = tuple(images["mean"]), tuple(images["std"])
    except InputError:  # nothing is written down: a file alone
        pass
    return Teacher(model, jax.device_put(variables, replicated(setup.mesh)), mean, std)
