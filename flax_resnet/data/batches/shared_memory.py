"""Batches from worker processes in memory that is used again.

A fresh page of shared memory costs the kernel more than decoding costs a row of pixels: clearing it
in the worker, mapping it in the trainer, taking it back. A worker here keeps its blocks and lends
them; the trainer copies a batch out and returns its block by the byte in front.

The blocks have no name: they are files in memory that the trainer opens by the worker's process
and number. So nothing is left behind whoever is killed, and the size of /dev/shm, 64 MiB in many
containers, does not matter. Linux alone has them; elsewhere Grain's shared memory does.
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

_ALIGNED = 64  # A cache line; the first one has the byte that says whether a block is lent.
_FREE, _LENT = 0, 1
_FENCE = threading.Lock()


def can_lend() -> bool:
    """Return whether this system has what lending needs."""
    return hasattr(os, "memfd_create") and Path(f"/proc/{os.getpid()}/fd").is_dir()


@dataclass(frozen=True)
class Loan:
    """Where a batch lies: in `size` bytes of a file that a process has open."""

    process: int
    file: int
    size: int
    arrays: dict[str, tuple[str, tuple[int, ...], int]]
    """Of each array its dtype, its shape, and its first byte."""


class Lender:
    """Make batches and lend them, in a worker; called by one thread."""

    def __init__(self, load: Callable[[int], Batch]) -> None:
        """Lend the batches that `load` returns for their numbers."""
        self._load = load
        self._blocks: list[_Block] = []

    def __call__(self, number: int) -> Loan:
        """Make a batch and return where it lies."""
        batch = cast(dict[str, np.ndarray], self._load(number))
        places, size = _places(batch)
        block = self._free_block(size)
        for key, value in batch.items():
            block.array(*places[key])[...] = value
        _fence()
        block.memory[0] = _LENT
        return Loan(os.getpid(), block.file, size, places)

    def _free_block(self, size: int) -> _Block:
        # As many as are on their way at once: Grain's queues bound them.
        free = next((block for block in self._blocks if block.memory[0] == _FREE), None)
        if free is None:
            free = _Block(os.memfd_create("batch"))
            self._blocks.append(free)
        _fence()
        if len(free.memory) < size:
            os.ftruncate(free.file, size)
            free.map()
        return free


class Borrower:
    """Copy lent batches out, and return their blocks, in the trainer."""

    def __init__(self) -> None:
        """Start with no block open."""
        self._blocks: dict[tuple[int, int], _Block] = {}

    def __call__(self, loan: Loan) -> Batch:
        """Return a batch that is the caller's own."""
        block = self._opened(loan)
        batch = {key: block.array(*place).copy() for key, place in loan.arrays.items()}
        _fence()
        block.memory[0] = _FREE
        return cast(Batch, batch)

    def _opened(self, loan: Loan) -> _Block:
        key = loan.process, loan.file
        if key not in self._blocks:
            self._blocks[key] = _Block(_open_of(loan.process, loan.file))
        block = self._blocks[key]
        if len(block.memory) < loan.size:
            block.map()
        return block


class _Block:
    """A file in memory, mapped. It grows."""

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
            f"worker process {process} of the loader has ended, perhaps for want of memory: use "
            "fewer workers (config.data.workers), or 0 for threads, and start again"
        ) from None


def _places(batch: dict[str, np.ndarray]) -> tuple[dict[str, Any], int]:
    places, end = {}, _ALIGNED
    for key, value in batch.items():
        places[key] = (value.dtype.str, value.shape, end)
        end += -(-value.nbytes // _ALIGNED) * _ALIGNED
    return places, end


def _fence() -> None:
    """Let what was read and written before be done before what follows.

    Processors other than x86 may swap a copy and the byte that says it is done. A lock's release
    waits for what was before it, and its next acquisition lets nothing pass.
    """
    with _FENCE:
        pass
    with _FENCE:
        pass
