"""Worker processes that neither import the user's script nor react to Ctrl-C while they start.

They are spawned: a forked process would inherit the threads and locks of jax in a broken state. By
default a spawned process first imports the program's script. One without `if __name__ ==
"__main__"` would then run again, and Python cannot find one that is read from standard input. Our
workers need nothing of it.

Until `start_worker` runs in it, a worker would also end with a traceback on the signals that a
terminal or a scheduler sends to all processes of a program.
"""

import functools
import multiprocessing.context
import multiprocessing.spawn
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import resource_tracker
from typing import Any

from flax_resnet.interrupts import SIGNALS

_starting = threading.local()


def worker_context() -> multiprocessing.context.SpawnContext:
    """Return the context in which a pool starts its processes."""
    protect_workers()
    return _WorkerContext()


class _WorkerProcess(multiprocessing.context.SpawnProcess):
    """A process that `protect_workers` recognizes."""


class _WorkerContext(multiprocessing.context.SpawnContext):
    Process = _WorkerProcess


@functools.cache
def protect_workers() -> None:
    """Start our workers, and Grain's, as this module says; other processes as usual."""
    if os.name != "posix":
        return
    spawned: Any = multiprocessing.context.SpawnProcess
    spawned._Popen = staticmethod(_protected(spawned._Popen))
    module: Any = multiprocessing.spawn
    module.get_preparation_data = _without_script(module.get_preparation_data)


def _protected(start: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wrap the function that starts a process."""

    @functools.wraps(start)
    def start_protected(process: Any) -> Any:
        target = getattr(process, "_target", None)
        grains = getattr(target, "__module__", "").startswith("grain.")
        if not grains and not isinstance(process, _WorkerProcess):
            return start(process)
        resource_tracker.ensure_running()  # Otherwise its start would unblock the signals.
        # The new process inherits the mask.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        _starting.worker = True
        try:
            return start(process)
        finally:
            _starting.worker = False
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    return start_protected


def _without_script(prepare: Callable[[str], dict[str, Any]]) -> Callable[[str], dict[str, Any]]:
    """Wrap the function that tells a new process what to import."""

    @functools.wraps(prepare)
    def prepare_worker(name: str) -> dict[str, Any]:
        values = prepare(name)
        if getattr(_starting, "worker", False):
            values.pop("init_main_from_name", None)
            values.pop("init_main_from_path", None)
        return values

    return prepare_worker
