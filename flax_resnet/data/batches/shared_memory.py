"""Transfer of batches from worker processes through reused blocks of shared memory.

New pages of shared memory are expensive: the kernel clears, maps and frees each of them. A worker
therefore reuses its blocks. The training process copies a batch out of its block and then marks the
block as free, by a flag in its first byte.

The blocks are anonymous in-memory files (memfd), which the training process opens through /proc.
So a killed process leaves nothing behind, and the size of /dev/shm, 64 MiB in many containers,
does not matter. They exist on Linux only; other systems use Grain's shared memory.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from flax_resnet.data.batches.loading import Batch
from flax_resnet.errors import InputError

_ALIGNED = 64  # A cache line; the first one contains the flag.
_FREE, _IN_USE = 0, 1
_FENCE = threading.Lock()


def has_memory_files() -> bool:
    """Return whether this system has the memory files that `BlockWriter` needs."""
    return hasattr(os, "memfd_create") and Path(f"/proc/{os.getpid()}/fd").is_dir()


class _Opened:
    """A file that is closed with this object, unless it was taken."""

    def __init__(self, process: int, file: int) -> None:
        self._file: int | None = None
        with contextlib.suppress(FileNotFoundError):  # The process has ended.
            self._file = os.open(f"/proc/{process}/fd/{file}", os.O_RDWR | os.O_CLOEXEC)

    def take(self) -> int | None:
        """Return the file; None if the process had ended before."""
        file, self._file = self._file, None
        return file

    def __del__(self) -> None:
        if self._file is not None:
            os.close(self._file)


@dataclass(frozen=True)
class BatchLocation:
    """The location of a batch: the first `size` bytes of an open file of a process.

    A location that is unpickled in the training process opens the file at once. Grain receives the
    last batches ahead of their use, and then ends the worker, with which its files vanish.
    """

    process: int
    file: int
    size: int
    arrays: dict[str, tuple[str, tuple[int, ...], int]]
    """The dtype, shape and byte offset of each array."""
    opened: _Opened | None = field(default=None, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (self.process, self.file, self.size, self.arrays)


def _arrived(process: int, file: int, size: int, arrays: dict[str, Any]) -> BatchLocation:
    return BatchLocation(process, file, size, arrays, _Opened(process, file))


class BlockWriter:
    """Make batches in a worker and write them to shared blocks; called by one thread."""

    def __init__(self, load: Callable[[int], Batch]) -> None:
        """Use `load` to make the batch of a given number."""
        self._load = load
        self._blocks: list[_Block] = []

    def __call__(self, number: int) -> BatchLocation:
        """Make a batch and return its location."""
        batch = cast(dict[str, np.ndarray], self._load(number))
        places, size = _layout(batch)
        block = self._free_block(size)
        for key, value in batch.items():
            block.array(*places[key])[...] = value
        _fence()
        block.memory[0] = _IN_USE
        return BatchLocation(os.getpid(), block.file, size, places)

    def _free_block(self, size: int) -> _Block:
        # Grain's queues bound the number of batches in transfer, and so the number of blocks.
        free = next((block for block in self._blocks if block.memory[0] == _FREE), None)
        if free is None:
            free = _Block(os.memfd_create("batch"))
            self._blocks.append(free)
        _fence()
        if len(free.memory) < size:
            os.ftruncate(free.file, size)
            free.map()
        return free


class BlockReader:
    """Copy batches out of shared blocks, in the training process, and free the blocks."""

    def __init__(self) -> None:
        """Start with no block open."""
        self._blocks: dict[tuple[int, int], _Block] = {}

    def __call__(self, location: BatchLocation) -> Batch:
        """Return a copy of a batch."""
        block = self._opened(location)
        batch = {key: block.array(*place).copy() for key, place in location.arrays.items()}
        _fence()
        block.memory[0] = _FREE
        return cast(Batch, batch)

    def _opened(self, location: BatchLocation) -> _Block:
        key = location.process, location.file
        if key not in self._blocks:
            opened = location.opened or _Opened(*key)
            if (file := opened.take()) is None:
                raise InputError(
                    f"worker process {location.process} of the loader has ended, perhaps because "
                    "memory ran out: use fewer workers (config.data.workers), or 0 for threads, "
                    "and start again"
                )
            self._blocks[key] = _Block(file)
        block = self._blocks[key]
        if len(block.memory) < location.size:
            block.map()
        return block


class _Block:
    """A mapped in-memory file that can grow."""

    def __init__(self, file: int) -> None:
        self.file = file
        if not os.fstat(file).st_size:
            os.ftruncate(file, _ALIGNED)
        self.map()

    def map(self) -> None:
        self.memory = mmap.mmap(self.file, os.fstat(self.file).st_size)

    def array(self, dtype: str, shape: tuple[int, ...], start: int) -> np.ndarray:
        array: np.ndarray = np.ndarray(shape, dtype, self.memory, start)
        return array

    def __del__(self) -> None:
        os.close(self.file)


def _layout(batch: dict[str, np.ndarray]) -> tuple[dict[str, Any], int]:
    places, end = {}, _ALIGNED
    for key, value in batch.items():
        places[key] = (value.dtype.str, value.shape, end)
        end += -(-value.nbytes // _ALIGNED) * _ALIGNED
    return places, end


def _fence() -> None:
    """Order the memory accesses before this call before those after it.

    Processors other than x86 may reorder a copy and the flag that marks it as complete. Releasing
    and acquiring a lock are memory barriers.
    """
    with _FENCE:
        pass
    with _FENCE:
        pass
