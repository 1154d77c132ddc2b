"""Transfer of batches from worker processes through reused blocks of shared memory.

New pages of shared memory are expensive: the kernel clears, maps and frees each of them. A worker
therefore reuses its blocks. The training process copies a batch out of its block and then marks the
block as free, by a flag in its first byte.

The blocks are anonymous in-memory files (memfd), which the training process opens through /proc.
So a killed process leaves nothing behind, and the size of /dev/shm, 64 MiB in many containers,
does not matter. They exist on Linux only; other systems use Grain's shared memory.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class BatchLocation:
    """The location of a batch: the first `size` bytes of an open file of a process."""

    process: int
    file: int
    size: int
    arrays: dict[str, tuple[str, tuple[int, ...], int]]
    """The dtype, shape and byte offset of each array."""


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
            self._blocks[key] = _Block(_open_of(location.process, location.file))
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


def _open_of(process: int, file: int) -> int:
    """Open a file that another process has open."""
    try:
        return os.open(f"/proc/{process}/fd/{file}", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise InputError(
            f"worker process {process} of the loader has ended, perhaps because memory ran out: "
            "use fewer workers (config.data.workers), or 0 for threads, and start again"
        ) from None


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
