"""The number of threads or worker processes, their memory, and their start."""

import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path

import cv2
from absl import flags

from flax_resnet.data.config import DataConfig
from flax_resnet.errors import InputError
from flax_resnet.interrupts import SIGNALS

SHARED_MEMORY = Path("/dev/shm")
_FEW_CORES = 4
_MOST_THREADS = 8


def choose_workers(
    config: DataConfig, small: bool, cores: int, memory: int, row_bytes: int = 0
) -> int:
    """Return the number of worker processes that `config.workers` = -1 stands for.

    0 means threads of the training process. They start immediately, and OpenCV releases Python's
    global lock, so on two cores they prepared as many 224-pixel crops per second as two processes
    did. On more cores the lock becomes the bottleneck, and processes are faster, provided that
    their batches fit into `memory` (bytes).
    """
    if small or cores <= _FEW_CORES:
        return 0
    # Two cores stay free for the training loop and for Grain's side of the queues.
    return min(cores - 2, memory // _memory_per_worker(config, row_bytes))


def choose_threads(small: bool, cores: int) -> int:
    """Return the number of threads that prepare batches in the training process.

    One for small images: most of their work holds Python's global lock, and a second thread slowed
    MNIST down from 35 to 90 microseconds per image.
    """
    return 1 if small else min(cores, _MOST_THREADS)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    # macOS has no CPU affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_worker(index: int, count: int) -> None:
    """Prepare a worker process: it ends with the main process, not on signals."""
    del index, count
    # Ctrl-C reaches every process of a terminal, and a scheduler may send SIGTERM to all of a job;
    # only the main process reacts.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    single_threaded_opencv()


def single_threaded_opencv() -> None:
    """Restrict OpenCV to the calling thread, because batches are already made in parallel."""
    cv2.setNumThreads(0)
    # Our own errors report damaged images, with their names.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def mark_flags_as_parsed() -> None:
    """Mark absl flags as parsed, which Grain needs, unless the program has parsed them."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def memory_for_batches(reuses_blocks: bool) -> int:
    """Return the memory, in bytes, available to the batches of all workers.

    Args:
      reuses_blocks: workers use in-memory files; otherwise they use the system's shared memory,
        which is small in containers.
    """
    if reuses_blocks:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if "MemAvailable" in line)
    # Without this folder, as on macOS, shared memory has no separate limit.
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.exists() else sys.maxsize


def check_memory(config: DataConfig, workers: int, memory: int, row_bytes: int) -> None:
    """Raise `InputError` if the workers' batches do not fit into `memory` (bytes)."""
    # Linux kills a process that exceeds it, without a message.
    needed = workers * _memory_per_worker(config, row_bytes)
    if memory < needed:
        raise InputError(
            f"config.data.workers is {workers}, whose batches need {needed >> 20} MiB of memory; "
            f"{memory >> 20} MiB are available. Use fewer workers, or 0 for threads."
        )


def _memory_per_worker(config: DataConfig, row_bytes: int = 0) -> int:
    """Return the bytes of four batches: one in progress, two finished ones and one in use.

    Args:
      row_bytes: the bytes of a row, if more than an image of image_size.
    """
    rows = max(config.batch_size, config.eval_batch_size)
    return 4 * rows * max(config.image_size**2 * config.channels, row_bytes)


def _end_with(parent: int) -> None:
    # A killed main process cannot end its workers, which would wait for it forever.
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
