"""Iterators over batches, which Grain's threads or worker processes prefetch."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from collections.abc import Iterator
from typing import cast

import grain
import numpy as np
from grain.multiprocessing import SharedMemoryArray

from flax_resnet.data.batches.loading import Batch, EvalLoader, TrainLoader, at_largest
from flax_resnet.data.batches.mask_loading import eval_loader, train_loader
from flax_resnet.data.batches.processes import protect_workers
from flax_resnet.data.batches.shared_memory import BlockReader, BlockWriter, has_memory_files
from flax_resnet.data.batches.workers import (
    available_cores,
    check_memory,
    choose_threads,
    choose_workers,
    mark_flags_as_parsed,
    memory_for_batches,
    single_threaded_opencv,
    start_worker,
)
from flax_resnet.data.config import DataConfig
from flax_resnet.data.images.transforms import Transform
from flax_resnet.data.sources.open import is_small
from flax_resnet.data.sources.source import Source
from flax_resnet.errors import InputError


def train_batches(
    source: Source,
    config: DataConfig,
    *,
    seed: int,
    start_batch: int = 0,
    num_batches: int,
    process_index: int = 0,
    process_count: int = 1,
    transform: Transform | None = None,
) -> BatchIterator:
    """Return training batches `start_batch` to `start_batch + num_batches - 1`.

    They are the batches of an uninterrupted run, for any number of workers. Every process gets its
    rows of the same global batches.

    Args:
      transform: a last change of each image, as `register_transform` takes it; default: the one
        that `config` names.
    """
    _check_divisible("batch_size", config.batch_size, process_count)
    loader = train_loader(source, config, seed, process_index, process_count, transform)
    numbers = range(start_batch, start_batch + num_batches)
    return BatchIterator(loader, numbers, -(-len(source) // config.batch_size))


def eval_batches(
    source: Source, config: DataConfig, *, process_index: int = 0, process_count: int = 1
) -> BatchIterator:
    """Return batches that contain every example once; `mask` is False in the last one's padding.

    Every process gets the same number of batches.
    """
    _check_divisible("eval_batch_size", config.eval_batch_size, process_count)
    loader = eval_loader(source, config, process_index, process_count)
    count = -(-len(source) // config.eval_batch_size)
    return BatchIterator(loader, range(count), count)


class BatchIterator(Iterator[Batch]):
    """Iterate over prefetched batches; close it, or drop it, to end its threads or processes."""

    def __init__(
        self, loader: TrainLoader | EvalLoader, numbers: range, batches_per_epoch: int
    ) -> None:
        """Start to prefetch the batches of these numbers."""
        self._config, self._source = loader.config, loader.source
        self._next, self._batches_per_epoch = numbers.start, batches_per_epoch
        self._skipped = 0
        # The list is emptied at the end, so that Grain's iterator does not outlive its modules.
        self._batches = [_prefetched(loader, numbers)]
        # Runs when the iterator is closed or dropped, or at the interpreter's exit.
        self.close = weakref.finalize(self, _close, self._batches)

    def __next__(self) -> Batch:
        """Return the next batch; raise `InputError` when too many records were skipped."""
        batch = self._fetch()
        if self._next % self._batches_per_epoch == 0:
            self._skipped = 0
        self._next += 1
        self._skipped += int(batch["skipped"].sum())
        if self._skipped > self._config.max_errors:
            self.close()
            raise InputError(
                f"{self._skipped} records of {self._source.name} cannot be decoded, more than "
                f"config.data.max_errors = {self._config.max_errors} in one epoch. Repair them "
                "(config.data.on_error='raise' names the first), or raise the limit."
            )
        return batch

    def _fetch(self) -> Batch:
        if not self._batches:
            raise StopIteration
        try:
            return next(self._batches[0])
        except InputError as error:
            # A new error is raised below: this one's traceback refers to Grain's frames, which keep
            # the shared memory of the last batch alive.
            failure = InputError(str(error))
        except BaseException:
            self.close()
            raise
        self.close()
        raise failure


def has_small_images(source: Source) -> bool:
    """Return whether the first image of a source is as small as those of MNIST or CIFAR."""
    try:
        return is_small(source[0]["image"])
    except (OSError, ValueError):  # The loader reports it or skips it.
        return False


def _prefetched(loader: TrainLoader | EvalLoader, numbers: range) -> grain.DatasetIterator[Batch]:
    config, cores, small = loader.config, available_cores(), has_small_images(loader.source)
    reuses_blocks = has_memory_files()
    memory = memory_for_batches(reuses_blocks)
    largest = dataclasses.replace(loader, config=at_largest(config)).empty(1)
    row_bytes = sum(np.asarray(value).nbytes for value in largest.values())
    workers = config.workers
    if workers < 0:
        workers = choose_workers(config, small, cores, memory, row_bytes)
    dataset = grain.MapDataset.range(numbers.start, numbers.stop)
    if workers == 0:
        single_threaded_opencv()
        threads = choose_threads(small, cores)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
        batches = dataset.map(loader).to_iter_dataset(options)
    else:
        check_memory(config, workers, memory, row_bytes)
        mark_flags_as_parsed()
        protect_workers()
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=1)
        processes = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=1)
        made, own = (BlockWriter(loader), BlockReader()) if reuses_blocks else (loader, _own)
        made_there = dataset.map(made).to_iter_dataset(options)
        batches = made_there.mp_prefetch(processes, start_worker).map(own)
    iterator = iter(batches)
    iterator.start_prefetch()
    return iterator


def _close(batches: list[grain.DatasetIterator[Batch]]) -> None:
    """End the threads or processes of the iterator in the list and free their memory."""
    while batches:
        batches.pop().close()
    # Grain frees shared memory on a separate thread, which the interpreter's exit would interrupt:
    # waiting for this empty task waits for all earlier ones. The exception that ended a stream
    # forms a cycle with the frame of its last batch, hence the garbage collection.
    cleaner = getattr(SharedMemoryArray, "_del_thread_pool", None)
    if cleaner is not None:
        gc.collect()
        cleaner.apply(int)


def _own(batch: Batch) -> Batch:
    # Grain's arrays are views of shared memory: a caller who keeps them would exhaust it, and they
    # raise errors at the interpreter's exit. A copy takes 3 % of the time of decoding.
    return cast(Batch, {key: np.array(value) for key, value in batch.items()})


def _check_divisible(name: str, size: int, process_count: int) -> None:
    if size % process_count:
        raise InputError(
            f"config.data.{name} is {size}; expected a multiple of the {process_count} processes, "
            "so that all prepare the same number of rows."
        )
