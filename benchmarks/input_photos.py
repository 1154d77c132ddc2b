"""Photographs for the benchmark of the input: a folder of them, or a few that everybody has."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import cv2

from benchmarks.augmentation import PHOTOS, photo
from flax_resnet.data import Example
from flax_resnet.data.images.decode import decode_image

# Sizes (width, height) that are common in ImageNet; at this quality a file has about 100 KB.
SIZES = ((500, 375), (500, 333), (375, 500), (400, 300), (640, 480))
QUALITY = 95
SUFFIXES = (".jpg", ".jpeg")


@dataclasses.dataclass(frozen=True)
class Photos:
    """JPEG files in memory, as a source of so many examples that an epoch does not end."""

    files: tuple[bytes, ...]
    name: str = "photos"
    num_classes: int = 1
    class_names: tuple[str, ...] = ("photo",)
    length: int = 1_000_000

    def __len__(self) -> int:
        """Return the number of examples."""
        return self.length

    def __getitem__(self, index: int) -> Example:
        """Return one of the files."""
        return {"image": self.files[index % len(self.files)], "label": 0}

    def describe(self, index: int) -> str:
        """Say which file an example is."""
        return f"photo {index % len(self.files)}"


def folder_photos(folder: Path) -> Photos:
    """Read the JPEG files of a folder."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(f"--photos is {folder}; expected a folder of {' or '.join(SUFFIXES)}")
    return Photos(tuple(path.read_bytes() for path in paths))


def carried_photos(sizes: Sequence[tuple[int, int]] = SIZES) -> Photos:
    """Return the photographs that scikit-learn carries, encoded anew at these sizes."""
    files = []
    for name in PHOTOS:
        image = cv2.cvtColor(decode_image(photo(name), 3), cv2.COLOR_RGB2BGR)
        for size in sizes:
            resized = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
            jpeg = cv2.imencode(".jpg", resized, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
            files.append(jpeg.tobytes())
    return Photos(tuple(files))
