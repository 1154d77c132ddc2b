"""What prepares images in the benchmark of the input, each behind the same few methods."""

import contextlib
import multiprocessing
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.input_photos import Photos
from benchmarks.proc import cpu_seconds
from flax_resnet.data import DataConfig, train_batches
from flax_resnet.data.batches.workers import single_threaded_opencv
from flax_resnet.data.images.decode import decode_image
from flax_resnet.data.images.transforms import train_transform

Prepare = Callable[[bytes, np.random.Generator, DataConfig], np.ndarray]


class Side(ABC):
    """Something that prepares images, in this process and in others."""

    def __init__(self) -> None:
        """Have no processes yet."""
        self._processes: list[int] = []

    def settle(self) -> None:
        """Use up what lies ready, so that what is timed is made while it is timed."""
        self.take(0)

    @abstractmethod
    def take(self, seconds: float) -> int:
        """Prepare images for about so long, and return how many."""

    def worker_seconds(self) -> float:
        """Return the CPU time that its other processes have used so far."""
        return cpu_seconds(self._processes)

    @abstractmethod
    def close(self) -> None:
        """End its threads and processes."""

    @contextlib.contextmanager
    def _adopting(self) -> Iterator[None]:
        """Count the processes that begin meanwhile as its own."""
        before = {child.pid for child in multiprocessing.active_children()}
        yield
        children = {child.pid for child in multiprocessing.active_children()} - before
        self._processes = sorted(pid for pid in children if pid is not None)


class Alone(Side):
    """A bare loop over photos, in as many processes as there are cores: what can be had at most."""

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
    """Decode, crop and mirror a photo as the library does."""
    return train_transform(decode_image(encoded, config.channels), rng, config)


class Stream(Side):
    """An iterator over batches of some loader, whose rows are along the first axis."""

    def __init__(self, make: Callable[[], Any], rows: Callable[[Any], int], ready: int) -> None:
        """Open the loader and wait for its first batches.

        Args:
          rows: says how many images a batch has, and that it is there.
          ready: so many batches at most lie ready when nobody has asked for a while.
        """
        super().__init__()
        self._rows, self._ready = rows, ready
        with self._adopting():
            self._batches = make()
            self._iterator = iter(self._batches)
            rows(next(self._iterator))
        self.settle()

    def settle(self) -> None:
        """Use up the batches that lie ready."""
        for _ in range(self._ready):
            self._rows(next(self._iterator))

    def take(self, seconds: float) -> int:
        """Take batches."""
        count, until = 0, time.perf_counter() + seconds
        while count == 0 or time.perf_counter() < until:
            count += self._rows(next(self._iterator))
        return count

    def close(self) -> None:
        """End what prepares the batches."""
        close = getattr(self._batches, "close", lambda: None)
        del self._iterator, self._batches
        close()


def loader(photos: Photos, config: DataConfig, cores: int) -> Stream:
    """Return the library's loader, with the workers that the config asks for."""
    batches = len(photos) // config.batch_size
    return Stream(
        lambda: train_batches(photos, config, seed=0, num_batches=batches),
        lambda batch: len(batch["image"]),
        # Grain keeps a batch for each thread and one more, and up to three for each process.
        ready=3 * config.workers + 2 if config.workers else cores + 2,
    )
