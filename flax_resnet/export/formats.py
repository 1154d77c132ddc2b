"""Write a network for other programs: as StableHLO, as a SavedModel, or as a folder of the hub.

A file with a function of images gets a description of these images beside it. It is read back, and
the error of its logits is returned; ONNX, in a module of its own, does the same.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from flax_resnet.errors import InputError, install_extra
from flax_resnet.export.network import Exported
from flax_resnet.files import replace_bytes, replace_text, writable
from flax_resnet.weights import Preprocessing, save_pretrained

PLATFORMS = ("cpu", "cuda", "tpu")


def write_stablehlo(network: Exported, path: Path) -> float:
    """Write a network to `path`, and the description of its images to `path.json`.

    Returns:
      The `logit_error` of the file.

    Raises:
      InputError: flatbuffers, which jax needs, is not installed, or the file cannot be written.
    """
    (batch,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, *network.image_shape), jnp.dtype(network.dtype))
    exported = export.export(jax.jit(network.__call__), platforms=PLATFORMS)(images)
    try:
        data = bytes(exported.serialize())
    except ImportError:
        raise InputError(f"StableHLO needs flatbuffers: {install_extra('export')}") from None
    write_file(network, path, data)
    loaded = export.deserialize(bytearray(path.read_bytes()))
    return logit_error(network, lambda images: np.asarray(loaded.call(images)))


def write_savedmodel(network: Exported, folder: Path) -> float:
    """Write a network to a folder, with the signature `serving_default(images)` -> `logits`.

    Returns:
      The `logit_error` of the folder's function.

    Raises:
      InputError: TensorFlow is not installed, or the folder cannot be written to.
    """
    try:
        import tensorflow as tf
        from jax.experimental import jax2tf
    except ModuleNotFoundError:
        raise InputError(f"SavedModel needs TensorFlow: {install_extra('savedmodel')}") from None
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
    with writable(folder):
        try:
            tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
        except tf.errors.OpError as error:
            raise OSError(error.message) from None
        _write_description(network, folder)
    loaded = tf.saved_model.load(str(folder)).signatures["serving_default"]
    return logit_error(network, lambda images: loaded(images=tf.constant(images))["logits"].numpy())


def write_hub(network: Exported, folder: Path, architecture: str | None = None) -> None:
    """Write `model.safetensors` and `config.json` to a folder.

    Args:
      architecture: the network's row in the table of models; None: the row that it equals.

    Raises:
      InputError: the network is not in the table, or the folder cannot be written to.
    """
    data = network.data
    images = Preprocessing(
        data.test_size,
        data.eval_crop,
        # timm knows these two; our other methods are closest to bilinear.
        "bicubic" if data.interpolation in ("bicubic", "random") else "bilinear",
        data.mean,
        data.std,
    )
    with writable(folder):
        save_pretrained(
            network.model,
            network.variables,
            folder,
            architecture=architecture,
            preprocessing=images,
        )


def write_file(network: Exported, path: Path, data: bytes) -> None:
    """Write `data` to `path`, and the description of the network's images to `path.json`.

    Raises:
      InputError: a file cannot be written.
    """
    with writable(path):
        replace_bytes(path, data)
        _write_description(network, path)


def logit_error(network: Exported, loaded: Callable[[np.ndarray], np.ndarray]) -> float:
    """Return the largest error of `loaded`'s logits for noise, over the network's largest logit."""
    noise = np.random.default_rng(0).standard_normal((2, *network.image_shape))
    images = (128 + 40 * noise).astype(np.uint8) if network.preprocess else noise.astype(np.float32)
    expected = np.asarray(jax.jit(network.__call__)(images))
    return float(np.abs(loaded(images) - expected).max() / max(np.abs(expected).max(), 1e-30))


def _write_description(network: Exported, path: Path) -> None:
    text = json.dumps(network.describe(), indent=1, ensure_ascii=False)
    replace_text(path.with_name(f"{path.name}.json"), text + "\n")
