"""TensorFlow's SavedModel by jax2tf: the same StableHLO, inside of a TensorFlow function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flax_resnet.errors import InputError
from flax_resnet.export.network import Exported
from flax_resnet.export.stablehlo import PLATFORMS, difference, write_description


def write_savedmodel(network: Exported, folder: Path) -> float:
    """Write a network to a folder, with one function `serving_default(images)` to `logits`.

    Returns:
      The largest difference, as `write_stablehlo` does.

    Raises:
      InputError: TensorFlow is not installed, or the folder cannot be written to.
    """
    try:
        import tensorflow as tf
        from jax.experimental import jax2tf
    except ModuleNotFoundError:
        raise InputError(
            "SavedModel needs TensorFlow: pip install 'flax-resnet[savedmodel]'"
        ) from None
    converted = jax2tf.convert(
        network.__call__,
        polymorphic_shapes=["(b, ...)"],
        native_serialization_platforms=PLATFORMS,
        with_gradient=False,
    )
    images = tf.TensorSpec([None, *network.image_shape], network.dtype, name="images")
    module: Any = tf.Module()
    module.serve = tf.function(
        lambda images: {"logits": converted(images)}, autograph=False, input_signature=[images]
    )
    try:
        tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
        write_description(network, folder)
    except (OSError, tf.errors.OpError) as error:
        raise InputError(f"{folder} cannot be written to: {error}") from None
    loaded = tf.saved_model.load(str(folder)).signatures["serving_default"]
    return difference(network, lambda images: loaded(images=tf.constant(images))["logits"].numpy())
