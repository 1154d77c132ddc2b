"""Images that the tests of the data pipeline share."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photo() -> np.ndarray:
    """A smooth uint8 (48, 64, 3) image, whose corners differ; JPEG hardly changes it."""
    coarse = np.random.default_rng(0).integers(256, size=(6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (64, 48), interpolation=cv2.INTER_CUBIC)


Encode = Callable[..., bytes]


@pytest.fixture
def encode() -> Encode:
    """Encode (image, format, options) with Pillow, which decodes the rarer formats as well."""
    return _encode


def _encode(image: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of gray images, their values class and number: 9 to train, 6 to evaluate."""
    for split, count in (("train", 3), ("val", 2)):
        for label, name in enumerate(("ant", "bee", "cat")):
            directory = tmp_path / "images" / split / name
            directory.mkdir(parents=True)
            for number in range(count):
                image = np.full((12, 10, 3), 40 * label + number, np.uint8)
                suffix = ("png", "PNG", "bmp")[number]
                (directory / f"{number}.{suffix}").write_bytes(_encode(image, suffix.upper()))
    return tmp_path / "images"
