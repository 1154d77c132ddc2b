"""StableHLO by `jax.export`: one file for CPU, CUDA and TPU, for batches of any size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from flax_resnet.errors import InputError
from flax_resnet.export.network import Exported
from flax_resnet.files import replace_bytes, replace_text

PLATFORMS = ("cpu", "cuda", "tpu")


def write_stablehlo(network: Exported, path: Path) -> float:
    """Write a network to `path`, and what its images have to be like to `path.json`.

    Returns:
      The largest difference of the file's logits to the network's, over the largest logit, on a
      batch of noise.

    Raises:
      InputError: flatbuffers, in which jax writes, is not installed; or the file cannot be written.
    """
    (batch,) = export.symbolic_shape("b")
    images = jax.ShapeDtypeStruct((batch, *network.image_shape), jnp.dtype(network.dtype))
    made = export.export(jax.jit(network.__call__), platforms=PLATFORMS)(images)
    try:
        data = bytes(made.serialize())
    except ImportError:
        raise InputError("StableHLO needs flatbuffers: pip install 'flax-resnet[export]'") from None
    try:
        replace_bytes(path, data)
        write_description(network, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written to: {error.strerror or error}") from None
    loaded = export.deserialize(bytearray(path.read_bytes()))
    return difference(network, lambda images: np.asarray(loaded.call(images)))


def write_description(network: Exported, path: Path) -> None:
    """Write what a program has to know to `path.json`."""
    text = json.dumps(network.describe(), indent=1, ensure_ascii=False)
    replace_text(path.with_name(f"{path.name}.json"), text + "\n")


def difference(network: Exported, loaded: Callable[[np.ndarray], np.ndarray]) -> float:
    """Return the largest difference of what was read back, over the network's largest logit."""
    noise = np.random.default_rng(0).standard_normal((2, *network.image_shape))
    images = (128 + 40 * noise).astype(np.uint8) if network.preprocess else noise.astype(np.float32)
    expected = np.asarray(jax.jit(network.__call__)(images))
    return float(np.abs(loaded(images) - expected).max() / max(np.abs(expected).max(), 1e-30))
