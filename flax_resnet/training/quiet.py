"""Orbax without what it prints about files that it cannot write or read: our errors tell it."""

import contextlib
import gc
import logging
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Keep Orbax's own words about a failure from the screen while this lasts.

    It logs an exception before it raises it. And where one of the arrays that it handles at once
    fails, it drops the others, whose coroutines complain to the interpreter's hook.
    """
    absl, hook = logging.getLogger("absl"), sys.unraisablehook

    def from_elsewhere(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname

    def note(unraisable: "sys.UnraisableHookArgs") -> None:
        if type(unraisable.object).__name__ != "coroutine":
            hook(unraisable)

    absl.addFilter(from_elsewhere)
    sys.unraisablehook = note
    try:
        yield
    finally:
        gc.collect()  # the dropped coroutines complain now, and not later
        sys.unraisablehook = hook
        absl.removeFilter(from_elsewhere)
