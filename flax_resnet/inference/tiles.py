"""Predict the class probabilities of every pixel, tile by tile if the image is large."""

import functools
from collections.abc import Callable
from typing import Any, cast

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8

from flax_resnet.errors import InputError
from flax_resnet.steps.gradient import normalize
from flax_resnet.training.runs import Run

Apply = Callable[[UInt8[np.ndarray, "n h w c"]], Float[Array, "n h w classes"]]


def make_apply(run: Run) -> Apply:
    """Return a run's jitted function from images, uint8 NHWC, to probabilities."""
    data = run.config.data

    @jax.jit
    def apply(variables: dict[str, Any], images: jax.Array) -> jax.Array:
        images = normalize(images, data.mean, data.std)
        return jax.nn.softmax(cast(jax.Array, run.model.apply(variables, images, train=False)))

    return functools.partial(apply, run.variables)


def predict(
    apply: Apply, image: UInt8[np.ndarray, "h w c"], tile: int, overlap: int
) -> Float[np.ndarray, "h w classes"]:
    """Return the probabilities of an image, in one pass unless it is larger than a tile."""
    if max(image.shape[:2]) > tile:
        return predict_tiled(apply, image, tile, overlap)
    return np.asarray(apply(image[None]))[0]


def predict_tiled(
    apply: Apply, image: UInt8[np.ndarray, "h w c"], tile: int, overlap: int
) -> Float[np.ndarray, "h w classes"]:
    """Return the output of `apply` for an image that is cut into overlapping square tiles.

    Only the center of every tile is used, so each pixel has `overlap` pixels of context around it;
    the image is mirrored at its border (the overlap-tile strategy of Ronneberger et al.,
    arXiv:1505.04597). If no output depends on pixels farther away than `overlap`, the result equals
    that for the whole mirrored image.

    Args:
      apply: maps (n, tile, tile, c) to (n, tile, tile, classes).
      tile: side of the tiles, in pixels.
      overlap: context on each side of a tile, in pixels.

    Raises:
      InputError: the tiles have no center.
    """
    step = tile - 2 * overlap
    if overlap < 0 or step < 1:
        raise InputError(
            f"tiles of {tile} pixels with {overlap} of context on each side; expected at least 0, "
            "and less than half a tile"
        )
    height, width = image.shape[:2]
    tops, lefts = range(0, height, step), range(0, width, step)
    below, right = tops[-1] + step - height, lefts[-1] + step - width
    sides = [(overlap, below + overlap), (overlap, right + overlap), (0, 0)]
    padded = np.pad(image, sides, mode="reflect")
    center = slice(overlap, overlap + step)
    strips = []
    for top in tops:
        squares = [padded[None, top : top + tile, left : left + tile] for left in lefts]
        centers = [np.asarray(apply(square))[0, center, center] for square in squares]
        strips.append(np.concatenate(centers, axis=1))
    return np.concatenate(strips)[:height, :width]
