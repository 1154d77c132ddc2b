"""How glibc's allocator treats memory that a program has freed.

Both functions do nothing where the C library is another one.
"""

import ctypes
import os

VARIABLE = "FLAX_RESNET_KEEP_MEMORY"
# Numbers of malloc.h, with the values that `keep_freed_memory` gives them.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_KEEP = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: -1, _M_ARENA_MAX: 1}


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees, and return whether it does.

    XLA:CPU allocates the temporary arrays of each step anew. By default glibc takes large arrays
    from the system and returns them, so every step touches its memory for the first time: up to
    600,000 page faults in a step of ResNet-50. The process then uses as much memory as it ever
    needed, as torch's and XLA's allocators on GPUs do. The environment variable
    FLAX_RESNET_KEEP_MEMORY=0 prevents it.

    Only programs call this, before jax starts its threads: a library must not decide it.
    """
    if os.environ.get(VARIABLE, "1") == "0":
        return False
    done = [_call("mallopt", name, value) for name, value in _KEEP.items()]
    return all(done)


def trim_heap() -> None:
    """Return freed memory to the system.

    Saving uses many threads, and glibc keeps the memory that each of them freed: a third of the
    memory of a small run, growing from hour to hour.
    """
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> int:
    """Call a function of glibc; return 0 if the C library does not have it."""
    try:
        return int(getattr(ctypes.CDLL(None), name)(*arguments))
    except (AttributeError, OSError, TypeError):
        return 0
