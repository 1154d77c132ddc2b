"""Freed memory is returned to the system."""

import ctypes
import platform
from pathlib import Path

import pytest

from flax_resnet.training.checkpoints.store import trim_heap

SIZE, COUNT = 2**14, 4096  # Small enough to come from the heap; 64 MiB together.


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one")
def test_freed_memory_is_returned_to_the_system() -> None:
    library = ctypes.CDLL(None)
    library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    blocks = [library.malloc(ctypes.c_size_t(SIZE)) for _ in range(COUNT)]
    for block in blocks:
        ctypes.memset(ctypes.c_void_p(block), 1, SIZE)
    for block in blocks[:-1]:  # The last one keeps the heap's end in place.
        library.free(block)
    before = resident_bytes()
    trim_heap()
    assert before - resident_bytes() > SIZE * COUNT / 2
    library.free(blocks[-1])
