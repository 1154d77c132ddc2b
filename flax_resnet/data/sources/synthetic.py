"""Random images with learnable classes, to try any config without data."""

import functools
import zlib
from dataclasses import dataclass

import cv2
import numpy as np

from flax_resnet.data.config import DataConfig
from flax_resnet.data.sources.source import Example, resolve_split
from flax_resnet.errors import InputError

_CLASSES = 10
# The size of every split. An evaluation with the ImageNet config takes less than a minute on a CPU.
_EXAMPLES = 1024
# A class is a coarse color grid, the same in every split, blended equally with noise.
_GRID = 4


@dataclass(frozen=True)
class SyntheticSource:
    """Images generated from the split and the index alone."""

    name: str
    split: str
    positions: np.ndarray
    num_classes: int
    image_size: int
    channels: int
    named: bool = False

    @property
    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes, which contain their numbers."""
        return tuple(f"pattern {label}" for label in range(self.num_classes))

    @property
    def labels(self) -> np.ndarray:
        """Return the label of each example."""
        return self.positions % self.num_classes

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.positions)

    def __getitem__(self, index: int) -> Example:
        """Return the pattern of the class, blended with the noise of this example."""
        position = int(self.positions[index])
        label = position % self.num_classes
        size = (self.image_size, self.image_size)
        grid = cv2.resize(_pattern(label), size, interpolation=cv2.INTER_LINEAR)
        noise = _rng(zlib.crc32(self.split.encode()), position).integers(
            256, size=(*size, 3), dtype=np.uint8
        )
        image = cv2.addWeighted(grid, 0.5, noise, 0.5, 0)
        return {"image": image[..., : self.channels], "label": label}

    def describe(self, index: int) -> str:
        """Return the position of an example in its split."""
        return f"{self.place(index)} of {self.name}"

    def place(self, index: int) -> str:
        """Return the position of an example in its split."""
        return f"example {self.positions[index]}"


def open_synthetic(config: DataConfig, rest: str, split: str) -> SyntheticSource:
    """Return a split of "synthetic" or "synthetic:CLASSES"; any name and slice is a split."""
    if rest and not (rest.isdecimal() and int(rest) >= 1):
        raise InputError(
            f"config.data.source is 'synthetic:{rest}'; expected a number of classes after the "
            "colon, such as synthetic:1000."
        )
    base = split.partition("[")[0]
    parts = resolve_split("synthetic", split, {base: _EXAMPLES})
    return SyntheticSource(
        name=f"{config.source} {split}",
        split=base,
        positions=np.concatenate([np.asarray(positions) for _, positions in parts]),
        num_classes=int(rest or _CLASSES),
        image_size=config.image_size,
        channels=config.channels,
    )


@functools.lru_cache(maxsize=1024)
def _pattern(label: int) -> np.ndarray:
    return _rng(0, label).integers(256, size=(_GRID, _GRID, 3), dtype=np.uint8)


def _rng(stream: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=np.array([stream, index], np.uint64)))
