"""What the input-pipeline benchmark compares: photographs, our loader, and its peers."""

import contextlib
import dataclasses
import importlib.util
import multiprocessing
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.peers import pillow_side
from benchmarks.peers.augmentation import PHOTOS, photo
from benchmarks.proc import cpu_seconds
from flax_resnet.data import DataConfig, Example, train_batches
from flax_resnet.data.batches.workers import single_threaded_opencv
from flax_resnet.data.images.decode import decode_image
from flax_resnet.data.images.transforms import train_transform

# Sizes (width, height) that are common in ImageNet; a file has about 100 KB at this quality.
SIZES = ((500, 375), (500, 333), (375, 500), (400, 300), (640, 480))
QUALITY = 95
SUFFIXES = (".jpg", ".jpeg")


@dataclasses.dataclass(frozen=True)
class Photos:
    """A source of JPEG files in memory, long enough that an epoch does not end."""

    files: tuple[bytes, ...]
    name: str = "photos"
    num_classes: int = 1
    class_names: tuple[str, ...] = ("photo",)
    named: bool = True
    length: int = 1_000_000

    def __len__(self) -> int:
        """Return the number of examples."""
        return self.length

    def __getitem__(self, index: int) -> Example:
        """Return one of the files."""
        return {"image": self.files[index % len(self.files)], "label": 0}

    def describe(self, index: int) -> str:
        """Return which file an example is."""
        return self.place(index)

    def place(self, index: int) -> str:
        """Return the number of the file."""
        return f"photo {index % len(self.files)}"


def folder_photos(folder: Path) -> Photos:
    """Read the JPEG files of a folder."""
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise SystemExit(f"--photos is {folder}; expected a folder of {' or '.join(SUFFIXES)}")
    return Photos(tuple(path.read_bytes() for path in paths))


def carried_photos(sizes: Sequence[tuple[int, int]] = SIZES) -> Photos:
    """Return scikit-learn's photographs, encoded again at these sizes."""
    files = []
    for name in PHOTOS:
        image = cv2.cvtColor(decode_image(photo(name), 3), cv2.COLOR_RGB2BGR)
        for size in sizes:
            resized = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
            jpeg = cv2.imencode(".jpg", resized, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
            files.append(jpeg.tobytes())
    return Photos(tuple(files))


Prepare = Callable[[bytes, np.random.Generator, DataConfig], np.ndarray]


class Side(ABC):
    """One side of the comparison, which prepares images in this process or in others."""

    def __init__(self) -> None:
        """Start without processes."""
        self._processes: list[int] = []

    def settle(self) -> None:
        """Consume prefetched images, so that timed images are prepared while the clock runs."""
        self.take(0)

    @abstractmethod
    def take(self, seconds: float) -> int:
        """Prepare images for about `seconds`, and return how many."""

    def worker_seconds(self) -> float:
        """Return the CPU time that its worker processes have used so far."""
        return cpu_seconds(self._processes)

    @abstractmethod
    def close(self) -> None:
        """End its threads and processes."""

    @contextlib.contextmanager
    def _adopting(self) -> Iterator[None]:
        """Count the processes that start inside the block as its own."""
        before = {child.pid for child in multiprocessing.active_children()}
        yield
        children = {child.pid for child in multiprocessing.active_children()} - before
        self._processes = sorted(pid for pid in children if pid is not None)


class Alone(Side):
    """A bare loop over photographs in one process per core: the upper bound."""

    def __init__(self, prepare: Prepare, photos: Photos, config: DataConfig, cores: int) -> None:
        """Start the processes."""
        super().__init__()
        self._cores = cores
        with self._adopting():
            context = multiprocessing.get_context("spawn")
            self._pool = context.Pool(cores, _begin, (prepare, photos, config))
        self.settle()

    def take(self, seconds: float) -> int:
        """Let every process loop."""
        return sum(self._pool.map(_loop, [seconds] * self._cores, chunksize=1))

    def close(self) -> None:
        """End the processes."""
        self._pool.terminate()
        self._pool.join()


_loops: dict[str, Callable[[float], int]] = {}


def _begin(prepare: Prepare, photos: Photos, config: DataConfig) -> None:
    single_threaded_opencv()
    row = np.empty((config.image_size, config.image_size, config.channels), np.uint8)
    rng, turns = np.random.default_rng(0), iter(range(len(photos)))

    def loop(seconds: float) -> int:
        count, until = 0, time.perf_counter() + seconds
        while count == 0 or time.perf_counter() < until:
            row[:] = prepare(photos.files[next(turns) % len(photos.files)], rng, config)
            count += 1
        return count

    _loops["loop"] = loop


def _loop(seconds: float) -> int:
    return _loops["loop"](seconds)


def prepare_ours(encoded: bytes, rng: np.random.Generator, config: DataConfig) -> np.ndarray:
    """Decode, crop and flip an image as the library does."""
    return train_transform(decode_image(encoded, config.channels), rng, config)


class Stream(Side):
    """A loader's iterator over batches, with images along the first axis."""

    def __init__(self, make: Callable[[], Any], rows: Callable[[Any], int], ready: int) -> None:
        """Open the loader and wait for its first batches.

        Args:
          rows: returns the number of images in a batch, and waits until it is ready.
          ready: the largest number of prefetched batches.
        """
        super().__init__()
        self._rows, self._ready = rows, ready
        with self._adopting():
            self._batches = make()
            self._iterator = iter(self._batches)
            rows(next(self._iterator))
        self.settle()

    def settle(self) -> None:
        """Consume the prefetched batches."""
        for _ in range(self._ready):
            self._rows(next(self._iterator))

    def take(self, seconds: float) -> int:
        """Take batches."""
        count, until = 0, time.perf_counter() + seconds
        while count == 0 or time.perf_counter() < until:
            count += self._rows(next(self._iterator))
        return count

    def close(self) -> None:
        """Stop the loader."""
        close = getattr(self._batches, "close", lambda: None)
        del self._iterator, self._batches
        close()


def loader(photos: Photos, config: DataConfig, cores: int) -> Stream:
    """Return the library's loader with the config's number of workers."""
    batches = len(photos) // config.batch_size
    return Stream(
        lambda: train_batches(photos, config, seed=0, num_batches=batches),
        lambda batch: len(batch["image"]),
        # Grain prefetches a batch per thread and one more, and up to three per process.
        ready=3 * config.workers + 2 if config.workers else cores + 2,
    )


READY = 4


def torch_loader(photos: Photos, config: DataConfig, workers: int) -> Stream:
    """Return torch's DataLoader with Pillow's random crop and flip, as in torchvision.

    Images stay uint8, which saves the usual conversion to float32.
    """
    import torch.utils.data

    def make() -> Any:
        return torch.utils.data.DataLoader(
            _Cropped(photos, config),
            batch_size=config.batch_size,
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
        )

    return Stream(make, len, ready=2 * workers)


class _Cropped:
    """A data set for torch's loader."""

    def __init__(self, photos: Photos, config: DataConfig) -> None:
        self._photos, self._config = photos, config

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, index: int) -> Any:
        import torch

        encoded = self._photos.files[index % len(self._photos.files)]
        rng = np.random.default_rng(index)
        # Pillow's pixels are read-only, so torchvision copies them too.
        return torch.tensor(pillow_side.prepare(encoded, rng, self._config))


def tf_loader(photos: Photos, config: DataConfig, cores: int) -> Stream:
    """Return tf.data with decode_and_crop_jpeg, as in Flax's ImageNet example.

    TensorFlow resizes in float32; the batches are converted back to uint8.
    """
    return Stream(lambda: _TfBatches(photos, config, cores), len, ready=READY)


class _TfBatches:
    def __init__(self, photos: Photos, config: DataConfig, cores: int) -> None:
        import tensorflow as tf

        options = tf.data.Options()
        options.threading.private_threadpool_size = cores
        files = tf.data.Dataset.from_tensor_slices(list(photos.files)).repeat()
        images = files.map(lambda file: _tf_crop(tf, file, config), num_parallel_calls=cores)
        batches = images.batch(config.batch_size, drop_remainder=True).prefetch(2)
        self._batches = batches.with_options(options).as_numpy_iterator()

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from self._batches

    def close(self) -> None:
        del self._batches


def _tf_crop(tf: Any, file: Any, config: DataConfig) -> Any:
    shape = tf.io.extract_jpeg_shape(file)
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        shape,
        bounding_boxes=tf.constant([0.0, 0.0, 1.0, 1.0], shape=[1, 1, 4]),
        min_object_covered=0.1,
        aspect_ratio_range=config.crop_ratio,
        area_range=config.crop_scale,
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    window = tf.stack([begin[0], begin[1], size[0], size[1]])
    image = tf.io.decode_and_crop_jpeg(file, window, channels=3)
    side = (config.image_size, config.image_size)
    image = tf.image.resize(image, side, antialias=config.interpolation != "aliased")
    return tf.cast(tf.image.random_flip_left_right(image), tf.uint8)


def installed(package: str) -> bool:
    """Return whether a package is installed."""
    return importlib.util.find_spec(package) is not None
