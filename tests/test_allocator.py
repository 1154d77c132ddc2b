"""What glibc's allocator does with freed memory: it is kept for the next step, or returned."""

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from flax_resnet.allocator import VARIABLE, trim_heap

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="the C library is another one"
)
SIZE, COUNT = 2**14, 4096  # Small enough to come from the heap; 64 MiB together.
# Large arrays, written and freed again and again: each pass takes fresh pages, or none.
PROGRAM = """
import resource
from flax_resnet.allocator import keep_freed_memory
kept = keep_freed_memory()
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        bytearray(2**26)[::4096] = bytes(2**14)
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(kept, faults)
"""


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


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


@pytest.mark.parametrize(("setting", "kept"), [("1", True), ("0", False)])
def test_freed_memory_is_kept_unless_a_variable_says_otherwise(setting: str, kept: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={VARIABLE: setting},
        capture_output=True,
        text=True,
        check=True,
    )
    found, faults = done.stdout.split()
    assert found == str(kept)
    assert (int(faults) < 1000) == kept
