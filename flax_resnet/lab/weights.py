"""A network with its weights, from anywhere or trained here, and images as it expects them."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from flax_resnet.data import DataConfig
from flax_resnet.data.images.decode import DecodeError, decode_image
from flax_resnet.data.images.transforms import eval_transform
from flax_resnet.errors import InputError
from flax_resnet.inference.explain import Classifier
from flax_resnet.lab.fit import Fitter, Variables
from flax_resnet.lab.networks import small_network
from flax_resnet.lab.settings import Training
from flax_resnet.models.layers import BatchNorm
from flax_resnet.steps.gradient import normalize
from flax_resnet.training.networks import find_network, open_network
from flax_resnet.training.runs import replace_data

# The digits have 8 pixels a side, so that last maps of 2 x 2 would be left.
_DIGITS_SIZE = 32

_SHOWN = 128  # pixels a side at most: a report writes each of them as a line of text


@dataclass(frozen=True)
class OneNetwork(Training):
    """Which network an experiment looks at."""

    data: str = ""
    """As in other experiments; "": a run's own, else the digits, enlarged to 32 pixels."""
    weights: str = ""
    """A run's folder, a published name or a file; "": train a network here."""
    network: str = "cifar_resnet20"
    """What is trained here."""
    stage_sizes: tuple[int, ...] = ()
    """Its blocks; (): as its name says."""
    seed: int = 0
    seeds: int = 1

    def __post_init__(self) -> None:
        """Refuse more than one network."""
        super().__post_init__()
        if self.seeds != 1:
            raise InputError(
                f"seeds is {self.seeds}; this experiment looks at 1 network: change seed instead"
            )

    def data_config(self) -> DataConfig:
        """Return the settings of the data pipeline, with the images that the weights expect."""
        size = self.image_size
        if not self.data and not self.weights:
            size = size or _DIGITS_SIZE
        given = dataclasses.replace(self, data=self.data or "digits", image_size=size)
        config = Training.data_config(cast(Any, given))
        if not self.weights:
            return config
        origin = find_network(self.weights)
        if origin.config is not None and not self.data:
            own = origin.config.data
            names = ("source", "data_dir", "train_split", "eval_split", "test_split")
            config = dataclasses.replace(config, **{name: getattr(own, name) for name in names})
        config = dataclasses.replace(config, **origin.image_settings())
        return replace_data(
            config,
            data_dir=self.data_dir,
            train_split=self.train_split,
            test_split=self.test_split,
            image_size=self.image_size,
        )


@dataclass(frozen=True)
class Trained:
    """A network, its variables, and the data that it expects; `name` is for figures."""

    model: Classifier
    variables: Variables
    data: DataConfig
    name: str


def obtain(settings: OneNetwork) -> Trained:
    """Load the network of `settings.weights`, or train one."""
    config = settings.data_config()
    if settings.weights:
        found, name = open_network(settings.weights), Path(settings.weights).name
        return Trained(classifier(found.model), dict(found.variables), config, name)
    stages = {"stage_sizes": settings.stage_sizes} if settings.stage_sizes else {}
    model = classifier(small_network(settings, settings.network, **stages))
    fitted = Fitter(model, settings).fit(settings.seed)
    shorter = f" cut to {'+'.join(map(str, model.stage_sizes))} blocks" if stages else ""
    return Trained(model, fitted.variables, config, settings.network + shorter)


def classifier(model: nn.Module) -> Classifier:
    """Return `model` if it has a stem, stages and a head.

    Raises:
      InputError: it is of another family.
    """
    if not isinstance(model, Classifier):
        raise InputError(
            f"the network is a {type(model).__name__}; expected one of the families ResNet and "
            "DenseNet: choose another network or other weights"
        )
    return model


def random_variables(model: Classifier, key: jax.Array, images: jax.Array) -> Variables:
    """Return first weights, with the batch-norm statistics of these images."""
    variables = dict(jax.jit(model.init)(key, images[:1]))
    if "batch_stats" not in variables:
        return variables

    @jax.jit
    def statistics(variables: Variables) -> Any:
        return model.apply(variables, images, train=True, mutable=["batch_stats"])[1]

    # A pass in training moves them by a share of the way: from 0 to that share of the images'.
    start = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
    moved = statistics({**variables, "batch_stats": start})["batch_stats"]
    share = 1 - BatchNorm.momentum
    return {**variables, "batch_stats": jax.tree.map(lambda leaf: leaf / share, moved)}


def read_pictures(paths: tuple[str, ...], config: DataConfig) -> jax.Array:
    """Return picture files as normalised images, cut as test images are.

    Raises:
      InputError: a file is missing, or no picture.
    """
    pictures = []
    for path in paths:
        try:
            pixels = decode_image(Path(path).read_bytes(), config.channels)
        except (OSError, DecodeError) as error:
            raise InputError(f"{path} cannot be read as a picture: {error}") from error
        pictures.append(eval_transform(pixels, config))
    return normalize(jnp.asarray(np.stack(pictures)), config.mean, config.std)


def to_pixels(images: jax.Array, config: DataConfig) -> np.ndarray:
    """Return normalised images as uint8, the way back; of large ones every n-th pixel."""
    step = -(-images.shape[1] // _SHOWN)
    shown = np.asarray(images)[:, ::step, ::step] * np.asarray(config.std) + np.asarray(config.mean)
    return np.clip(np.round(255 * shown), 0, 255).astype(np.uint8)
