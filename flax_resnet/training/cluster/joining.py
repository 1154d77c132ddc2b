"""Several processes that train together, and what they do when one is lost.

When a process dies, JAX aborts the others a minute or two later. Here every process sends
heartbeats to the first one, which announces the loss of a silent process; each of the others then
prints which one was lost and exits, instead of waiting forever in a collective operation.
"""

import contextlib
import ctypes
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
from jax._src import distributed  # the key-value store of a cluster has no public name

from flax_resnet.errors import InputError
from flax_resnet.training.cluster.agreement import meet


@contextlib.contextmanager
def before_abort(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` when the process aborts inside this context; the abort follows if it returns.

    JAX aborts from C++ when the first process of a cluster cannot be reached. The callback that it
    accepts cannot be written in Python (its argument has no conversion, jax 0.10 to 0.12), and a
    Python handler for SIGABRT would never run, so this one is called from C.
    """
    handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda number: tell())
    set_handler = ctypes.CDLL(None).signal
    set_handler.restype = ctypes.c_void_p
    set_handler(int(signal.SIGABRT), handler)
    try:
        yield
    finally:
        set_handler(int(signal.SIGABRT), ctypes.c_void_p(0))  # SIG_DFL


# EX_UNAVAILABLE of sysexits.h: another process is gone; start all processes again.
EXIT_LOST = 69
PATIENCE = 30
MEETING_TIME = 180  # seconds that the first process waits for the others
OFF = "off"
_ADVICE = (
    ".\nStart all processes again: the run continues from its newest checkpoint, even with a "
    "different number of processes"
)


@contextlib.contextmanager
def joined(
    coordinator: str | None = None,
    process_id: int | None = None,
    process_count: int | None = None,
    *,
    patience: int = PATIENCE,
) -> Iterator[None]:
    """Join a cluster for the length of this context; without a cluster, run alone.

    Without arguments the environment decides: SLURM, Open MPI, Cloud TPU and Kubernetes announce
    themselves to JAX. Call this before any other function of JAX.

    When another process is lost, or stops with an error, this one prints which and why, and exits
    with status 69.

    Args:
      coordinator: host:port of the first process; "off" for a single process, whatever the
        environment says.
      patience: seconds without a sign of life after which a process counts as lost.

    Raises:
      InputError: the arguments do not make sense, or the cluster cannot be reached.
    """
    if not _join(coordinator, process_id, process_count):
        yield
        return
    watch = _Watch(patience)
    with before_abort(watch.note_abort):
        watch.start()
        try:
            yield
        except SystemExit:  # All stop at the same step.
            watch.leave()
            raise
        except BaseException as error:
            watch.fail(error)
        watch.leave()


def _join(coordinator: str | None, process_id: int | None, process_count: int | None) -> bool:
    """Join the cluster that is named or announced; return whether there is one."""
    if coordinator == OFF:
        return False
    given = {"coordinator": coordinator, "process_id": process_id, "process_count": process_count}
    missing = [f"--{name}" for name, value in given.items() if value is None]
    if 0 < len(missing) < len(given):
        raise InputError(
            f"{' and '.join(missing)} missing: a cluster needs --coordinator HOST:PORT, "
            "--process_id and --process_count, or none of them if the environment provides them"
        )
    if coordinator is not None and not re.fullmatch(r".+:\d{1,5}", coordinator):
        raise InputError(f"--coordinator is {coordinator!r}; expected HOST:PORT, or {OFF}")
    # Processes agree to stop along with their batches. JAX's own way would hide SIGTERM from the
    # loop.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        with before_abort(_note_unreachable):
            jax.distributed.initialize(
                coordinator, process_count, process_id, initialization_timeout=MEETING_TIME
            )
    except (ValueError, RuntimeError) as error:
        if missing and "should be defined" in str(error):
            return False
        raise InputError(
            f"no cluster can be joined here: {error}. --coordinator {OFF} runs a single process"
        ) from None
    return jax.process_count() > 1


def _note_unreachable() -> None:
    address = str(distributed.global_state.coordinator_address)
    lost = "some process" if _answers(address) else "process 0"
    print(
        f"error: after {MEETING_TIME} s not all processes have connected to {address}: "
        f"{lost} was lost, or started with another address. Start all of them again",
        file=sys.stderr,
        flush=True,
    )
    os._exit(EXIT_LOST)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except OSError:
        return False
    return True


class _Watch:
    """Send heartbeats and watch for the loss of other processes, in a thread."""

    def __init__(self, patience: int) -> None:
        self._patience, self._pause = patience, min(patience / 10, 2.0)
        self._index, self._count = jax.process_index(), jax.process_count()
        self._client: Any = distributed.global_state.client
        self._names: dict[int, str] = {}
        self._heard: dict[int, tuple[str, float]] = {}
        self._end, self._quitting = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Introduce this process to the others and begin to watch them."""
        name = f"process {self._index} of {self._count} (host {socket.gethostname()}, "
        self._client.key_value_set(f"name/{self._index}", f"{name}process id {os.getpid()})")
        meet("all processes are here")
        self._names = self._read("name")
        self._thread.start()

    def leave(self) -> None:
        """Leave together with the others."""
        meet("the run is over")
        self._end.set()
        self._thread.join()
        jax.distributed.shutdown()

    def fail(self, error: BaseException) -> NoReturn:
        """Announce that this process ends, unless it ends because another was lost."""
        if not isinstance(error, InputError | KeyboardInterrupt):
            # A lost process first causes a failing collective. The watch finds out which process
            # it was, and ends this one.
            time.sleep(2 * self._patience)
        self._client.key_value_set(f"failed/{self._index}", str(error) or type(error).__name__)
        if not isinstance(error, InputError):
            sys.excepthook(type(error), error, error.__traceback__)
        self._quit(str(error), 2 if isinstance(error, InputError) else 1)

    def note_abort(self) -> None:
        """Report the loss of the first process, if that is why JAX aborts."""
        if not _answers(str(distributed.global_state.coordinator_address)):
            self._quit(f"{self._names[0]} was lost{_ADVICE}", EXIT_LOST)

    def _run(self) -> None:
        beats = 0
        while not self._end.wait(self._pause):
            beats += 1
            with contextlib.suppress(RuntimeError, ValueError):  # `note_abort` reports it
                self._client.key_value_set(f"beat/{self._index}", str(beats), allow_overwrite=True)
                if self._index == 0:
                    self._look_for_silence()
                for index, reason in self._read("failed").items():
                    if index != self._index:
                        self._quit(f"{self._names[index]} stopped: {reason}{_ADVICE}", EXIT_LOST)
                for index in self._read("lost"):
                    self._quit(f"{self._names[index]} was lost{_ADVICE}", EXIT_LOST)

    def _look_for_silence(self) -> None:
        now, beats = time.monotonic(), self._read("beat")
        for index in range(1, self._count):
            beat, since = self._heard.get(index, ("", now))
            if beats.get(index, "") != beat or index not in self._heard:
                self._heard[index] = (beats.get(index, ""), now)
            elif now - since > self._patience:
                self._client.key_value_set(f"lost/{index}", "silent", allow_overwrite=True)

    def _read(self, key: str) -> dict[int, str]:
        found = self._client.key_value_dir_get(key)
        return {int(name.rsplit("/", 1)[1]): value for name, value in found}

    def _quit(self, reason: str, status: int) -> NoReturn:
        if not self._quitting.acquire(blocking=False):
            time.sleep(2 * self._patience)  # The thread that came here first ends both.
        print(f"error: {reason}", file=sys.stderr, flush=True)
        sys.stdout.flush()
        if self._index == 0:
            # The others learn the reason from this process.
            time.sleep(3 * self._pause)
        # A normal exit would wait for collectives, saves and processes that never finish.
        os._exit(status)
