"""A last word before the process aborts from C++."""

import contextlib
import ctypes
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def before_abort(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` when the process aborts while this lasts; where it returns, that goes on.

    JAX aborts from C++ where the first process of a cluster cannot be reached. The callback that
    it could be given instead cannot be written in Python (its argument has no conversion, jax
    0.10 to 0.12), and a Python handler for SIGABRT would never run, so this one is called by C.
    """
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: tell())
    set_handler = ctypes.CDLL(None).signal
    set_handler.restype = ctypes.c_void_p
    set_handler(int(signal.SIGABRT), handler)
    try:
        yield
    finally:
        set_handler(int(signal.SIGABRT), ctypes.c_void_p(0))  # SIG_DFL
