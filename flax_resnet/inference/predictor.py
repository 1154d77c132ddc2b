"""A trained network together with the preprocessing of its images."""

import functools
import os
from collections.abc import Iterator
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8

from flax_resnet.data.config import DataConfig
from flax_resnet.data.images.any_kind import AnImage, pixels_of
from flax_resnet.data.images.transforms import eval_transform
from flax_resnet.errors import InputError
from flax_resnet.models.variables import require_features
from flax_resnet.onednn.choice import for_inference
from flax_resnet.steps.gradient import normalize
from flax_resnet.steps.mesh import data_mesh, put_batch, replicated
from flax_resnet.steps.step import jit_over
from flax_resnet.training.networks import open_network

Pixels = UInt8[np.ndarray, "n h w c"]


class Predictor:
    """Classify images of any size, in batches of one size, on all devices.

    Attributes:
      name: what tables and plots call it.
      data: how images are prepared.
      class_names: the name of each output; its number where the names are not known.
      threshold: the probability from which a class counts as predicted, where an image can have
        several; 0 where it has one, and classes are ranked.
    """

    def __init__(
        self,
        name: str,
        model: nn.Module,
        variables: dict[str, Any],
        data: DataConfig,
        class_names: tuple[str, ...] = (),
        batch_size: int = 32,
        mesh: Mesh | None = None,
        threshold: float = 0.0,
    ) -> None:
        """Put the variables on every device.

        Args:
          batch_size: images at a time, rounded up to a multiple of the number of devices.
        """
        self.name, self.model, self.data = name, model, data
        self.threshold = threshold
        self.class_names = class_names or tuple(map(str, range(model.num_classes)))
        self._mesh = mesh or data_mesh()
        self.batch_size = -(-batch_size // self._mesh.size) * self._mesh.size
        self.variables = jax.device_put(dict(variables), replicated(self._mesh))

    def prepare(self, image: AnImage) -> UInt8[np.ndarray, "s s c"]:
        """Return an image decoded, resized and cropped as in the network's evaluation.

        Args:
          image: a path, the bytes of a file, a Pillow image or uint8 (height, width, channels).

        Raises:
          DecodeError, OSError: it is not an image, or a damaged one.
        """
        return eval_transform(pixels_of(image, self.data.channels), self.data)

    def probabilities(self, pixels: Pixels) -> Float[np.ndarray, "n classes"]:
        """Return the probability of each class for prepared images.

        They sum to 1 where an image has one class, and are independent where it can have several.

        Raises:
          InputError: a probability is not finite.
        """
        return self._in_batches(self._classify, pixels)

    def features(self, pixels: Pixels, stage: str | None = None) -> Float[np.ndarray, "n channels"]:
        """Return the channels of a stage, averaged over each prepared image.

        Args:
          stage: `stem`, `layer1` ... as the model's `features` calls them; None: the last.

        Raises:
          InputError: the network has no such stage, or a feature is not finite.
        """
        require_features(self.model)
        return self._in_batches(self._embed, pixels, stage)

    def _in_batches(self, function: Any, pixels: Pixels, *chosen: str | None) -> np.ndarray:
        parts = [
            np.asarray(
                function(self.variables, put_batch({"image": batch}, self._mesh)["image"], *chosen)
            )
            for batch in _batches(pixels, self.batch_size)
        ]
        found = np.concatenate(parts)[: len(pixels)]
        if not np.isfinite(found).all():
            dtype = jnp.dtype(getattr(self.model, "dtype", jnp.float32)).name
            raise InputError(
                f"{self.name} computes numbers that are not finite: its weights are damaged, or "
                f"too large for its dtype {dtype}"
            )
        return found

    @functools.cached_property
    def _classify(self) -> Any:
        def classify(variables: dict[str, Any], pixels: Array) -> Array:
            images = normalize(pixels, self.data.mean, self.data.std)
            logits = cast(Array, self.model.apply(variables, images, train=False))
            activation = jax.nn.sigmoid if self.threshold else jax.nn.softmax
            return activation(logits.astype(jnp.float32))

        return jit_over(self._mesh, for_inference(classify))

    @functools.cached_property
    def _embed(self) -> Any:
        def embed(variables: dict[str, Any], pixels: Array, stage: str | None) -> Array:
            images = normalize(pixels, self.data.mean, self.data.std)

            def features(variables: dict[str, Any], images: Array) -> Any:
                return self.model.apply(variables, images, train=False, method="features")

            maps = for_inference(features)(variables, images)
            if stage is not None and stage not in maps:
                raise InputError(
                    f"{self.name} has no stage {stage!r}; expected one of {', '.join(maps)}"
                )
            return maps[stage or list(maps)[-1]].astype(jnp.float32).mean((1, 2))

        return jit_over(self._mesh, embed, static_argnums=2)


def open_predictor(
    source: str | os.PathLike[str],
    step: str | int = "best",
    average: bool = True,
    batch_size: int = 32,
    mesh: Mesh | None = None,
    key: str | None = None,
    train_size: bool = False,
    threshold: str | None = None,
) -> Predictor:
    """Return a predictor of whatever `load_pretrained` takes.

    Args:
      step, average, key: see `open_network`.
      train_size: prepare images at the size of training instead of the test size.
      threshold: see `TrainedNetwork.threshold`.

    Raises:
      InputError: the source cannot be used, or does not classify images, or has no such threshold.
    """
    found = open_network(source, step=step, average=average, mesh=mesh, key=key)
    if found.origin.task == "segmentation":
        raise InputError(
            f"{source} is a run of {found.origin.task}; expected a run of classification "
            "(python -m flax_resnet segment takes segmentation)"
        )
    return Predictor(
        found.name,
        found.model,
        found.variables,
        found.origin.data(train_size),
        found.class_names,
        batch_size,
        mesh,
        found.threshold(threshold),
    )


def _batches(pixels: Pixels, size: int) -> Iterator[Pixels]:
    """Yield batches of one size, which one program serves; black images fill the last batch."""
    for start in range(0, max(len(pixels), 1), size):
        rows = pixels[start : start + size]
        short = size - len(rows)
        yield np.pad(rows, ((0, short), (0, 0), (0, 0), (0, 0))) if short else rows
