"""A trained network together with all that it takes to show it pictures."""

from __future__ import annotations

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
from flax_resnet.data.images.decode import decode_image, to_channels
from flax_resnet.data.images.transforms import eval_transform
from flax_resnet.errors import InputError
from flax_resnet.steps.gradient import normalize
from flax_resnet.steps.mesh import data_mesh, put_batch, replicated
from flax_resnet.steps.step import jit_over
from flax_resnet.training.pretrained import data_settings, is_run, load_pretrained
from flax_resnet.training.runs import restore
from flax_resnet.weights.published import OWNER, imagenet_classes, list_pretrained

Pixels = UInt8[np.ndarray, "n h w c"]


class Predictor:
    """Classify pictures of any size, in batches of one size, over all devices.

    Attributes:
      name: what to call it in tables and figures.
      data: how pictures are prepared.
      class_names: of the outputs; their numbers where they have no names.
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
    ) -> None:
        """Put the variables on every device.

        Args:
          batch_size: pictures at a time, made up to a multiple of the number of devices.
        """
        self.name, self.model, self.data = name, model, data
        self.class_names = class_names or tuple(map(str, range(model.num_classes)))
        self._mesh = mesh or data_mesh()
        self.batch_size = -(-batch_size // self._mesh.size) * self._mesh.size
        self.variables = jax.device_put(dict(variables), replicated(self._mesh))

    def prepare(self, picture: bytes | UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "s s c"]:
        """Decode, resize and cut a picture as the network was evaluated.

        Raises:
          DecodeError: the bytes are no picture, or a damaged one.
        """
        channels = self.data.channels
        if isinstance(picture, bytes):
            picture = decode_image(picture, channels)
        return eval_transform(to_channels(picture, channels), self.data)

    def probabilities(self, pixels: Pixels) -> Float[np.ndarray, "n classes"]:
        """Return the probability of each class for prepared pictures, as many as there are."""
        return self._in_batches(self._classify, pixels)

    def features(self, pixels: Pixels, stage: str | None = None) -> Float[np.ndarray, "n channels"]:
        """Return a stage's channels, averaged over the picture, for prepared pictures.

        Args:
          stage: `stem`, `layer1` ... as the model's `features` calls them; None: the last.

        Raises:
          InputError: the network has no such stage.
        """
        return self._in_batches(self._embed, pixels, stage)

    def _in_batches(self, function: Any, pixels: Pixels, *chosen: str | None) -> np.ndarray:
        parts = [
            np.asarray(
                function(self.variables, put_batch({"image": batch}, self._mesh)["image"], *chosen)
            )
            for batch in _batches(pixels, self.batch_size)
        ]
        return np.concatenate(parts)[: len(pixels)]

    @functools.cached_property
    def _classify(self) -> Any:
        def classify(variables: dict[str, Any], pixels: Array) -> Array:
            images = normalize(pixels, self.data.mean, self.data.std)
            logits = cast(Array, self.model.apply(variables, images, train=False))
            return jax.nn.softmax(logits.astype(jnp.float32))

        return jit_over(self._mesh, classify)

    @functools.cached_property
    def _embed(self) -> Any:
        def embed(variables: dict[str, Any], pixels: Array, stage: str | None) -> Array:
            images = normalize(pixels, self.data.mean, self.data.std)
            maps: Any = self.model.apply(variables, images, train=False, method="features")
            if stage is not None and stage not in maps:
                raise InputError(
                    f"there is no stage {stage!r} in {self.name}; it has {', '.join(maps)}"
                )
            return maps[stage or list(maps)[-1]].astype(jnp.float32).mean((1, 2))

        return jit_over(self._mesh, embed, static_argnums=2)


def open_predictor(
    source: str | os.PathLike[str],
    step: str | int = "best",
    average: bool = True,
    batch_size: int = 32,
    mesh: Mesh | None = None,
) -> Predictor:
    """Make a predictor of a run, or of whatever else `load_pretrained` takes.

    Args:
      step: of a run: `best`, `latest`, or the number of a kept checkpoint.
      average: of a run: the average of its parameters where it keeps one.

    Raises:
      InputError: there is no such run, or there are no such weights; or the run's task is another.
    """
    if not is_run(source):
        model, variables = load_pretrained(source)
        data = DataConfig(**data_settings(source))
        name, names = os.fspath(source), class_names(os.fspath(source), model.num_classes)
        return Predictor(name, model, variables, data, names, batch_size, mesh)
    run = restore(source, step, mesh, average)
    if run.config.task != "classification":
        raise InputError(
            f"{source} is a run of {run.config.task}; expected one of classification "
            "(python -m flax_resnet segment takes the other)"
        )
    name = f"{run.config.model.name} of {run.workdir}, step {run.step}"
    data, names = run.config.data, run.class_names
    return Predictor(name, run.model, run.variables, data, names, batch_size, mesh)


def class_names(weights: str, classes: int) -> tuple[str, ...]:
    """Return the names of published weights' classes; () where they are not known."""
    published = weights.removeprefix(OWNER) in list_pretrained()
    return imagenet_classes() if published and classes == len(imagenet_classes()) else ()


def _batches(pixels: Pixels, size: int) -> Iterator[Pixels]:
    """Yield batches of one size, so that one program serves all; the last is filled with black."""
    for start in range(0, max(len(pixels), 1), size):
        rows = pixels[start : start + size]
        short = size - len(rows)
        yield np.pad(rows, ((0, short), (0, 0), (0, 0), (0, 0))) if short else rows
