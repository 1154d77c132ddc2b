"""Weights that make a network learn the narrow gaps between things that nearly touch."""

from __future__ import annotations

import math

import cv2
import numpy as np

from flax_resnet.data.masks import IGNORED


def border_weights(labels: np.ndarray, weight: float, sigma: float) -> np.ndarray:
    """Return weight * exp(-(d1 + d2)^2 / (2 sigma^2)) of the background, float32 (height, width).

    d1 and d2 are the distances to the nearest and the second nearest thing: equation 2 of
    Ronneberger et al., arXiv:1505.04597, without its class weights. A thing is a connected piece
    of pixels that are not of class 0, the background; pieces that touch only at corners are two.
    """
    things = ((labels > 0) & (labels != IGNORED)).astype(np.uint8)
    count, pieces, boxes, _ = cv2.connectedComponentsWithStats(things, connectivity=4)
    height, width = labels.shape
    # Farther off a term is below weight * exp(-8).
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
    return np.where(things == 0, gaps, 0).astype(np.float32)
