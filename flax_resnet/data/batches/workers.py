"""How many threads or worker processes prepare batches, and how a worker lives."""

from __future__ import annotations

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

SHARED_MEMORY = Path("/dev/shm")
_FEW_CORES = 4
_MOST_THREADS = 8


def choose_workers(
    config: DataConfig, small: bool, cores: int, memory: int, row_bytes: int = 0
) -> int:
    """Return the number of worker processes that `config.workers` = -1 stands for.

    0 means threads of the training process: they start at once, and OpenCV decodes and resizes
    outside Python's lock, so that on two cores they prepared as many 224-pixel crops a second as
    two processes did. On more cores the lock, which the training loop needs too, becomes the
    limit, and processes pay, provided that their batches fit the memory (bytes) there is for them.
    """
    if small or cores <= _FEW_CORES:
        return 0
    # Two cores stay free for the training loop and for Grain's side of the queues.
    return min(cores - 2, memory // _memory_per_worker(config, row_bytes))


def choose_threads(small: bool, cores: int) -> int:
    """Return the number of threads that prepare batches in the training process.

    One for small images: most of their work holds Python's lock, and a second thread made MNIST
    take 90 microseconds an image instead of 35.
    """
    return 1 if small else min(cores, _MOST_THREADS)


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    # macOS has no affinity.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def start_worker(index: int, count: int) -> None:
    """Prepare a worker process: it lives as long as the main one wants it to."""
    del index, count
    # Ctrl-C reaches every process of a terminal, and a scheduler may send SIGTERM to all of a job;
    # the main one decides what that means.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    single_threaded_opencv()


def single_threaded_opencv() -> None:
    """Keep OpenCV to the calling thread, for whole batches are already made in parallel."""
    cv2.setNumThreads(0)
    # What it prints about damaged images goes into our errors, with the image's name.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def mark_flags_as_parsed() -> None:
    """Let Grain read its absl flags in programs that parse none; those that do are left alone."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def memory_for_batches(lent: bool) -> int:
    """Return how many bytes of batches all workers together may hold.

    Args:
      lent: they lend memory of their own; otherwise they use the system's shared memory, which
        containers keep small.
    """
    if lent:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if "MemAvailable" in line)
    # Where there is no such folder, as on macOS, shared memory has no limit of its own.
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.exists() else sys.maxsize


def check_memory(config: DataConfig, workers: int, memory: int, row_bytes: int) -> None:
    """Raise `InputError` unless the workers' batches fit the memory (bytes) there is for them."""
    # Linux kills a process that touches more than there is, without a word.
    needed = workers * _memory_per_worker(config, row_bytes)
    if memory < needed:
        raise InputError(
            f"config.data.workers is {workers}, whose batches need {needed >> 20} MiB of memory; "
            f"{memory >> 20} MiB are free for them. Use fewer workers, or 0 for threads."
        )


def _memory_per_worker(config: DataConfig, row_bytes: int = 0) -> int:
    """Return the bytes of the batch that a process makes, of two ready ones and the one in use.

    Args:
      row_bytes: of a row, where it is more than an image of image_size.
    """
    rows = max(config.batch_size, config.eval_batch_size)
    return 4 * rows * max(config.image_size**2 * config.channels, row_bytes)


def _end_with(parent: int) -> None:
    # A main process that was killed can end nobody; its workers would wait for it for ever.
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
