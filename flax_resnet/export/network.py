"""A network with its weights as a function of images alone, ready for export."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from flax_resnet.data import DataConfig
from flax_resnet.inference.predictor import Predictor
from flax_resnet.models import Network
from flax_resnet.steps.gradient import normalize
from flax_resnet.weights import fold_batch_norm


@dataclass(frozen=True)
class Exported:
    """A network as a function from images to logits.

    Attributes:
      preprocess: take uint8 images and normalize them, instead of normalized float32 images.
      original: the network before its batch norms were folded; None: it is this one.
      threshold: that of its `Predictor`.
    """

    name: str
    model: nn.Module
    variables: dict[str, Any]
    data: DataConfig
    class_names: tuple[str, ...]
    preprocess: bool = False
    original: "Exported | None" = None
    threshold: float = 0.0

    def __call__(self, images: Array) -> Array:
        """Return the logits of images as `preprocess` defines them, in float32."""
        if self.preprocess:
            images = normalize(images, self.data.mean, self.data.std)
        logits: Any = self.model.apply(self.variables, images, train=False)
        return logits.astype(jnp.float32)

    @property
    def dtype(self) -> str:
        """Return the dtype of the images."""
        return "uint8" if self.preprocess else "float32"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Return height, width and channels of the images."""
        size = self.data.test_size
        return size, size, self.data.channels

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Return the shape of an image's logits: (classes,), or (h, w, classes) of a U-Net."""
        image = jax.ShapeDtypeStruct((1, *self.image_shape), jnp.dtype(self.dtype))
        return jax.eval_shape(self.__call__, image).shape[1:]

    def describe(self) -> dict[str, Any]:
        """Return how to prepare images and read the logits, as JSON values."""
        data, shape = self.data, self.output_shape
        resizing = {
            "resize_short_side_to": int(data.test_size / data.eval_crop),
            "interpolation": data.interpolation,
            "centre_crop": data.test_size,
        }
        # For segmentation images are not resized but cut into tiles.
        return {
            "network": self.name,
            "input": {"shape": ["b", *self.image_shape], "dtype": self.dtype},
            "output": {"shape": ["b", *shape], "dtype": "float32", "is": "logits"},
            **(resizing if len(shape) == 1 else {}),
            "normalised_inside": self.preprocess,
            "mean_of_0_to_1": list(data.mean),
            "std_of_0_to_1": list(data.std),
            "classes": list(self.class_names),
            # An image can have several classes: those whose probability reaches the threshold.
            **({"activation": "sigmoid", "threshold": self.threshold} if self.threshold else {}),
        }


def as_function(predictor: Predictor, fold: bool = True, preprocess: bool = False) -> Exported:
    """Return a predictor's network, with its batch norms folded into its convolutions.

    Args:
      fold: False keeps the batch norms; other norms are never folded.
      preprocess: normalize uint8 images inside the function.
    """
    model: Any = predictor.model
    variables = jax.device_get(predictor.variables)
    names = predictor.class_names
    network = Exported(
        predictor.name,
        model,
        variables,
        predictor.data,
        names,
        preprocess,
        threshold=predictor.threshold,
    )
    if not (fold and isinstance(model, Network) and model.norm == "batch"):
        return network
    folded, variables = fold_batch_norm(model, variables)
    return dataclasses.replace(network, model=folded, variables=variables, original=network)
