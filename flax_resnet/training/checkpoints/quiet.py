"""Orbax without what it logs about files that it cannot write or read: our errors tell it."""

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_orbax() -> Iterator[None]:
    """Keep what Orbax logs from the screen while this lasts: it logs an exception and raises it."""
    absl = logging.getLogger("absl")

    def from_elsewhere(record: logging.LogRecord) -> bool:
        return "orbax" not in record.pathname

    absl.addFilter(from_elsewhere)
    try:
        yield
    finally:
        absl.removeFilter(from_elsewhere)
