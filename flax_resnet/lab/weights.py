"""Load or train the one network that an experiment studies, and prepare images for it."""

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

# The digits have 8 x 8 pixels, which would leave last maps of 2 x 2.
_DIGITS_SIZE = 32

_SHOWN = 128  # largest side of images in a result: each pixel is a line of its JSON file


@dataclass(frozen=True)
class OneNetwork(Training):
    """The network that an experiment studies."""

    data: str = ""
    """As in other experiments; "": the run's own data, else digits enlarged to 32 pixels."""
    weights: str = ""
    """A run's folder, a published name or a file; "": train a network."""
    key: str = ""
    """The part of a file of `weights` to use, as in `load_pretrained`."""
    network: str = "cifar_resnet20"
    """The network to train, if there are no `weights`."""
    stage_sizes: tuple[int, ...] = ()
    """Blocks in each of its stages; (): those of the named network."""
    seed: int = 0
    seeds: int = 1

    def __post_init__(self) -> None:
        """Refuse more than one seed, and a part of no weights."""
        super().__post_init__()
        check_key(self.key, self.weights)
        if self.seeds != 1:
            raise InputError(
                f"seeds is {self.seeds}; this experiment studies 1 network: change seed instead"
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
    """A network, its variables, the data that it expects, and its name in figures."""

    model: Classifier
    variables: Variables
    data: DataConfig
    name: str
    class_names: tuple[str, ...] = ()


def check_key(key: str, weights: str) -> None:
    """Raise `InputError` if a part of weights is named, but no weights."""
    if key and not weights:
        raise InputError(f"key is {key!r}, the part of a file of weights: set weights too")


def obtain(settings: OneNetwork) -> Trained:
    """Load the network of `settings.weights`, or train one."""
    config = settings.data_config()
    if settings.weights:
        found = open_network(settings.weights, key=settings.key or None)
        model, names = classifier(found.model), found.class_names
        name = Path(settings.weights).name
        return Trained(model, dict(found.variables), config, name, names)
    stages = {"stage_sizes": settings.stage_sizes} if settings.stage_sizes else {}
    model = classifier(small_network(settings, settings.network, **stages))
    fitter = Fitter(model, settings)
    fitted = fitter.fit(settings.seed)
    shorter = f" cut to {'+'.join(map(str, model.stage_sizes))} blocks" if stages else ""
    names = fitter.data.train.class_names
    return Trained(model, fitted.variables, config, settings.network + shorter, names)


def classifier(model: nn.Module) -> Classifier:
    """Return `model` if it has a stem, stages and a head.

    Raises:
      InputError: it belongs to another family.
    """
    if not isinstance(model, Classifier):
        raise InputError(
            f"the network is a {type(model).__name__}; expected one of the families ResNet and "
            "DenseNet: choose another network or other weights"
        )
    return model


def random_variables(model: Classifier, key: jax.Array, images: jax.Array) -> Variables:
    """Return initial weights, with batch-norm statistics of these images."""
    variables = dict(jax.jit(model.init)(key, images[:1]))
    if "batch_stats" not in variables:
        return variables

    @jax.jit
    def statistics(variables: Variables) -> Any:
        return model.apply(variables, images, train=True, mutable=["batch_stats"])[1]

    # A training pass moves them from 0 to a fixed fraction of the images' statistics.
    start = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
    moved = statistics({**variables, "batch_stats": start})["batch_stats"]
    share = 1 - BatchNorm.momentum
    return {**variables, "batch_stats": jax.tree.map(lambda leaf: leaf / share, moved)}


def read_images(paths: tuple[str, ...], config: DataConfig) -> jax.Array:
    """Return image files as normalized images, cropped like test images.

    Raises:
      InputError: a file is missing, or not an image.
    """
    images = []
    for path in paths:
        try:
            pixels = decode_image(Path(path).read_bytes(), config.channels)
        except (OSError, DecodeError) as error:
            raise InputError(f"{path} cannot be read as an image: {error}") from error
        images.append(eval_transform(pixels, config))
    return normalize(jnp.asarray(np.stack(images)), config.mean, config.std)


def to_pixels(images: jax.Array, config: DataConfig) -> np.ndarray:
    """Return normalized images as uint8 pixels; large images are subsampled."""
    step = -(-images.shape[1] // _SHOWN)
    shown = np.asarray(images)[:, ::step, ::step] * np.asarray(config.std) + np.asarray(config.mean)
    return np.clip(np.round(255 * shown), 0, 255).astype(np.uint8)
