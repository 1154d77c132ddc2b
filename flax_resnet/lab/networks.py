"""Make the networks for CIFAR that experiments compare, adapted to their data."""

from typing import Any

from flax_resnet.errors import InputError
from flax_resnet.lab.datasets import open_dataset
from flax_resnet.lab.settings import Training
from flax_resnet.models import Network, create_model

# The kinds of networks in most comparisons, which differ only in their shortcut.
PLAIN_AND_RESIDUAL = {"plain": "none", "residual": "zero_pad"}


def small_network(settings: Training, name: str = "cifar_resnet20", **arguments: Any) -> Network:
    """Return a network by name, for the images and classes of the experiment's data."""
    data = open_dataset(settings.data_config())
    shape = dict(in_channels=data.config.channels, image_size=data.config.image_size)
    return create_model(name, **{"num_classes": data.train.num_classes, **shape, **arguments})


def deep_network(settings: Training, depth: int, shortcut: str, **arguments: Any) -> Network:
    """Return the network for CIFAR with `depth` = 6 n + 2 layers and this shortcut."""
    if depth < 8 or (depth - 2) % 6:
        raise InputError(f"depth is {depth}; expected 6 n + 2 layers, such as 20, 32 or 56")
    stages = ((depth - 2) // 6,) * 3
    return small_network(settings, stage_sizes=stages, shortcut=shortcut, **arguments)


def even_network(
    settings: Training, depth: int, shortcut: str, width: int, **arguments: Any
) -> Network:
    """Return a network of `depth` = 2 n + 2 layers whose n blocks all have the same shape.

    Nothing but the number of its blocks changes with depth, so that even four layers are a network
    of this kind.
    """
    if depth < 4 or depth % 2:
        raise InputError(f"depth is {depth}; expected 2 n + 2 layers, such as 4, 6 or 20")
    stage: dict[str, Any] = dict(stage_sizes=((depth - 2) // 2,), widths=(width,))
    return small_network(settings, **stage, shortcut=shortcut, **arguments)
