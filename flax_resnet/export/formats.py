"""Write a network for other programs: as StableHLO, as a SavedModel, or as a folder of the hub.

A file with a function of images gets a description of these images beside it. Each is read back
before it gets its name, and there is none if its logits are not the network's; ONNX, in a module of
its own, does the same.
"""

import contextlib
import dataclasses
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
from flax_resnet.files import filling, replace_text, replacing, writable
from flax_resnet.weights import (
    Description,
    Preprocessing,
    check_finite,
    open_weights,
    save_pretrained,
)

PLATFORMS = ("cpu", "cuda", "tpu")
# The largest error of logits, as a share of the largest logit, that rounding can explain: some
# hundred times as much as deep networks have.
TOLERANCES = {"bfloat16": 0.1, "float16": 0.03}
TOLERANCE = 1e-3
Logits = Callable[[np.ndarray], np.ndarray]


def write_stablehlo(network: Exported, path: Path) -> float:
    """Write a network to `path`, and the description of its images to `path.json`.

    Returns:
      The `logit_error` of the file.

    Raises:
      InputError: flatbuffers, which jax needs, is not installed, the file cannot be written, or its
        logits are not the network's.
    """
    (batch,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, *network.image_shape), jnp.dtype(network.dtype))
    exported = export.export(jax.jit(network.__call__), platforms=PLATFORMS)(images)
    try:
        data = bytes(exported.serialize())
    except ImportError:
        raise InputError(f"StableHLO needs flatbuffers: {install_extra('export')}") from None

    def read(path: Path) -> Logits:
        loaded = export.deserialize(bytearray(path.read_bytes()))
        return lambda images: np.asarray(loaded.call(images))

    return write_file(network, path, data, read)


def write_savedmodel(network: Exported, folder: Path) -> float:
    """Write a network to a folder, with the signature `serving_default(images)` -> `logits`.

    Returns:
      The `logit_error` of the folder's function.

    Raises:
      InputError: TensorFlow is not installed, the folder cannot be written to, or its logits are
        not the network's.
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
        with filling(folder) as part:
            try:
                tf.saved_model.save(module, str(part), signatures={"serving_default": module.serve})
            except tf.errors.OpError as error:
                raise OSError(error.message) from None
            serve = tf.saved_model.load(str(part)).signatures["serving_default"]
            difference = checked_error(
                network, lambda images: serve(images=tf.constant(images))["logits"].numpy(), folder
            )
        write_description(network, folder)
    return difference


def write_hub(network: Exported, folder: Path, known: Description) -> float:
    """Write `model.safetensors` and `config.json` to a folder.

    Args:
      known: the network's row in the table of models, how images were prepared in training, and
        the names of classes; each as far as it is known.

    Returns:
      The `logit_error` of the network that is read from it.

    Raises:
      InputError: the network is not in the table, the folder cannot be written to, or its logits
        are not the network's.
    """
    data = network.data
    testing = Preprocessing(
        data.test_size,
        data.eval_crop,
        # timm knows these two; our other methods are closest to bilinear.
        "bicubic" if data.interpolation in ("bicubic", "random") else "bilinear",
        data.mean,
        data.std,
    )
    training = known.preprocessing or testing
    size, crop = training.image_size, training.crop_fraction
    model: Any = network.model
    check_finite(network.variables, network.name)
    with writable(folder), filling(folder) as part:
        save_pretrained(
            model,
            network.variables,
            part,
            architecture=known.architecture,
            preprocessing=dataclasses.replace(testing, image_size=size, crop_fraction=crop),
            test_preprocessing=testing,
            class_names=known.names_of(model.num_classes),
            class_descriptions=known.class_descriptions,
            threshold=network.threshold or None,
        )
        loaded, variables, _ = open_weights(part)
        same = dataclasses.replace(
            network, model=loaded.clone(dtype=model.dtype), variables=variables
        )
        return checked_error(network, _logits(same), folder)


def write_file(network: Exported, path: Path, data: bytes, read: Callable[[Path], Logits]) -> float:
    """Write `data` to `path`, and the description of the network's images to `path.json`.

    Args:
      read: returns the logits' function in a file.

    Returns:
      The `logit_error` of the file.

    Raises:
      InputError: a file cannot be written, or its logits are not the network's.
    """
    with writable(path):
        with replacing(path) as part:
            part.write_bytes(data)
            difference = checked_error(network, read(part), path)
        write_description(network, path)
    return difference


def checked_error(network: Exported, loaded: Logits, path: Path) -> float:
    """Return `logit_error`.

    Raises:
      InputError: rounding does not explain the error, or it is nan; the message names `path`.
    """
    difference = logit_error(network, loaded)
    dtype = jnp.dtype(getattr(network.model, "dtype", jnp.float32)).name
    limit = TOLERANCES.get(dtype, TOLERANCE)
    if not difference <= limit:  # as for nan
        raise InputError(
            f"{path} is not written: read back, its logits differ from the network's by "
            f"{difference:.0e} of the largest; expected at most {limit:.0e} in {dtype}. Choose "
            "another checkpoint (--step), another --format, or --no-fold"
        )
    return difference


def logit_error(network: Exported, loaded: Logits) -> float:
    """Return the largest error of `loaded`'s logits for noise, over the network's largest logit.

    Both are computed on the CPU, because accelerators round float32 to fewer bits.
    """
    noise = np.random.default_rng(0).standard_normal((2, *network.image_shape))
    images = (128 + 40 * noise).astype(np.uint8) if network.preprocess else noise.astype(np.float32)
    with _on_cpu():
        expected = _logits(network.original or network)(images)
        return float(np.abs(loaded(images) - expected).max() / max(np.abs(expected).max(), 1e-30))


def _on_cpu() -> contextlib.AbstractContextManager[Any]:
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:  # JAX_PLATFORMS excludes it
        return contextlib.nullcontext()


def _logits(network: Exported) -> Logits:
    compiled = jax.jit(network.__call__)
    return lambda images: np.asarray(compiled(images))


def write_description(network: Exported, path: Path) -> None:
    """Write how to prepare images and read the logits to `path.json`."""
    text = json.dumps(network.describe(), indent=1, ensure_ascii=False)
    replace_text(path.with_name(f"{path.name}.json"), text + "\n")
