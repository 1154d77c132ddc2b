"""Joint crops, flips, rotations and elastic deformations of an image and its mask.

Random choices use the generator that is passed in.
"""

import functools
import math

import cv2
import numpy as np

from flax_resnet.data.config import DataConfig
from flax_resnet.models import IGNORED


def paired_transform(
    image: np.ndarray, label: np.ndarray, rng: np.random.Generator, config: DataConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Return the same random crop of both, deformed, flipped and rotated alike.

    Smaller images are padded by reflection. Images are interpolated bilinearly, labels take the
    nearest pixel.
    """
    size, masks = config.image_size, config.masks
    # Always drawn, so that switching one off does not change the others.
    *where, across, down, turn = rng.random(5).tolist()
    top, left = (
        _offset(side, size, uniform) for side, uniform in zip(label.shape, where, strict=True)
    )
    if masks.elastic > 0:
        field = displacements(rng, size, masks.elastic_spacing, masks.elastic)
        image = _bent(image, top, left, field, cv2.INTER_LINEAR)
        label = _bent(label, top, left, field, cv2.INTER_NEAREST)
    else:
        image, label = (_cut(array, top, left, size) for array in (image, label))
    if config.flip and across < 0.5:
        image, label = image[:, ::-1], label[:, ::-1]
    if masks.flip_vertical and down < 0.5:
        image, label = image[::-1], label[::-1]
    if masks.quarter_turns:
        image, label = (np.rot90(array, int(4 * turn)) for array in (image, label))
    return image, label


def displacements(
    rng: np.random.Generator, size: int, spacing: int, deviation: float
) -> np.ndarray:
    """Draw a smooth field of displacements, float32 (size, size, 2) of (down, right) in pixels.

    Displacements at the nodes of a grid are normal, with bicubic interpolation between them
    (Simard et al. 2003; Ronneberger et al., arXiv:1505.04597, section 3.1).
    """
    spline = _spline(size, spacing)
    nodes = rng.standard_normal((spline.shape[1],) * 2 + (2,), np.float32) * np.float32(deviation)
    # Not a matrix product, whose order of summation may depend on the number of threads.
    rows = np.einsum("in,nmk->imk", spline, nodes)
    return np.einsum("jm,imk->ijk", spline, rows)


def pad_to(array: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return an image padded below and to the right by reflection."""
    sides = [(0, height - array.shape[0]), (0, width - array.shape[1])]
    return np.pad(array, sides + [(0, 0)] * (array.ndim - 2), mode="reflect")


def _offset(side: int, size: int, uniform: float) -> int:
    """Return the start of a crop of `size`, which is negative for smaller images."""
    return int(uniform * (side - size + 1)) if side >= size else (side - size) // 2


def _cut(array: np.ndarray, top: int, left: int, size: int) -> np.ndarray:
    cut = array[max(top, 0) : top + size, max(left, 0) : left + size]
    if cut.shape[:2] == (size, size):
        return cut
    sides = [
        (max(-start, 0), max(start + size - side, 0))
        for start, side in zip((top, left), array.shape, strict=False)
    ]
    return np.pad(cut, sides + [(0, 0)] * (array.ndim - 2), mode="reflect")


def _bent(
    array: np.ndarray, top: int, left: int, field: np.ndarray, interpolation: int
) -> np.ndarray:
    steps = np.arange(len(field), dtype=np.float32)
    rows = field[..., 0] + (steps + top)[:, None]
    columns = field[..., 1] + (steps + left)[None]
    bent = cv2.remap(array, columns, rows, interpolation, borderMode=cv2.BORDER_REFLECT_101)
    return bent.reshape(*bent.shape[:2], *array.shape[2:])  # OpenCV drops a single channel.


@functools.lru_cache(maxsize=8)
def _spline(size: int, spacing: int) -> np.ndarray:
    """Return the weights, float32 (size, nodes), of Keys' cubic convolution (a = -1/2)."""
    at = np.arange(size) / spacing
    before = np.floor(at).astype(np.int64)
    t = at - before
    weights = np.zeros((size, before[-1] + 4), np.float32)
    four = (
        -t / 2 + t**2 - t**3 / 2,
        1 - 5 * t**2 / 2 + 3 * t**3 / 2,
        t / 2 + 2 * t**2 - 3 * t**3 / 2,
        -(t**2) / 2 + t**3 / 2,
    )
    for shift, weight in enumerate(four):
        weights[np.arange(size), before + shift] = weight
    return weights


def border_weights(labels: np.ndarray, weight: float, sigma: float) -> np.ndarray:
    """Return weight * exp(-(d1 + d2)^2 / (2 sigma^2)) in the background, float32 (height, width).

    d1 and d2 are the distances to the nearest and the second nearest object: equation 2 of
    Ronneberger et al., arXiv:1505.04597, without its class weights. Objects are the 4-connected
    components of the pixels that are not of class 0, the background.
    """
    objects = ((labels > 0) & (labels != IGNORED)).astype(np.uint8)
    count, pieces, boxes, _ = cv2.connectedComponentsWithStats(objects, connectivity=4)
    height, width = labels.shape
    # At larger distances the result is below weight * exp(-8).
    reach = math.ceil(4 * sigma)
    first = np.full(labels.shape, np.inf, np.float32)
    second = first.copy()
    for piece in range(1, count):
        left, top, across, down, _ = boxes[piece].tolist()
        near = (
            slice(max(top - reach, 0), min(top + down + reach, height)),
            slice(max(left - reach, 0), min(left + across + reach, width)),
        )
        outside = (pieces[near] != piece).astype(np.uint8)
        distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        second[near] = np.minimum(second[near], np.maximum(first[near], distance))
        first[near] = np.minimum(first[near], distance)
    gaps = weight * np.exp(-np.square(first + second) / (2 * sigma**2))
    return np.where(objects == 0, gaps, 0).astype(np.float32)
