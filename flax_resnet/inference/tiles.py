"""Probabilities of every pixel of an image, tile by tile where it is large."""

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
    """Return the jitted function from images, uint8 NHWC, to probabilities, of a run."""
    data = run.config.data

    @jax.jit
    def apply(variables: dict[str, Any], images: jax.Array) -> jax.Array:
        images = normalize(images, data.mean, data.std)
        return jax.nn.softmax(cast(jax.Array, run.model.apply(variables, images, train=False)))

    return functools.partial(apply, run.variables)


def predict(
    apply: Apply, image: UInt8[np.ndarray, "h w c"], tile: int, overlap: int
) -> Float[np.ndarray, "h w classes"]:
    """Return the probabilities of an image, in one piece unless it is larger than a tile."""
    if max(image.shape[:2]) > tile:
        return predict_tiled(apply, image, tile, overlap)
    return np.asarray(apply(image[None]))[0]


def predict_tiled(
    apply: Apply, image: UInt8[np.ndarray, "h w c"], tile: int, overlap: int
) -> Float[np.ndarray, "h w classes"]:
    """Return what `apply` gives for an image that it sees in overlapping squares.

    Of every tile the centre counts alone, so that each pixel is seen with `overlap` pixels around
    it; beyond the border the image is mirrored (the overlap-tile strategy of Ronneberger et al.,
    arXiv:1505.04597). Where no output depends on pixels farther off than `overlap`, the result is
    that for the whole mirrored image.

    Args:
      apply: maps (n, tile, tile, c) to (n, tile, tile, classes).
      tile: side of the squares.
      overlap: how much of a square is context, on each side.

    Raises:
      InputError: the tiles have no centre.
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
    centre = slice(overlap, overlap + step)
    strips = []
    for top in tops:
        squares = [padded[None, top : top + tile, left : left + tile] for left in lefts]
        centres = [np.asarray(apply(square))[0, centre, centre] for square in squares]
        strips.append(np.concatenate(centres, axis=1))
    return np.concatenate(strips)[:height, :width]
