"""The network that a run learns from."""

import jax
import jax.numpy as jnp

from flax_resnet.errors import InputError
from flax_resnet.training.mesh import replicated
from flax_resnet.training.pretrained import data_settings, load_pretrained
from flax_resnet.training.setup import Setup
from flax_resnet.training.tasks.distillation import Teacher


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
