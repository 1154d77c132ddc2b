"""Read files of images: plain files alone, and never without bound."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from flax_resnet.data.decode import DecodeError

# A photograph has a few megabytes, a large scan that is not compressed a hundred.
MAX_BYTES = 2**28

_KINDS: dict[str, Callable[[int], bool]] = {
    "folder": stat.S_ISDIR,
    "named pipe": stat.S_ISFIFO,
    "socket": stat.S_ISSOCK,
    "device": lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode),
}


def read_file(path: Path) -> bytes:
    """Return the bytes of an image's file.

    Raises:
      DecodeError: it is no plain file, or has more than `MAX_BYTES`.
      OSError: it has gone, or may not be read.
    """
    with open_plain(path) as file:
        # Not all that comes: a file may grow while it is read.
        return file.read(os.fstat(file.fileno()).st_size)


@contextmanager
def open_plain(path: Path) -> Iterator[BinaryIO]:
    """Open a file for as long as a block runs; raise as `read_file` does."""
    with open(path, "rb", opener=_at_once) as file:
        status = os.fstat(file.fileno())
        if kind := special_kind(status.st_mode):
            raise DecodeError(f"it is a {kind}; expected a file")
        if status.st_size > MAX_BYTES:
            raise DecodeError(f"its {status.st_size} bytes are more than the limit of {MAX_BYTES}")
        yield file


def special_kind(mode: int) -> str | None:
    """Say what is there instead of a plain file, given its `st_mode`."""
    return next((kind for kind, holds in _KINDS.items() if holds(mode)), None)


def _at_once(path: str, mode: int) -> int:
    # Opening a named pipe would wait for a writer. Windows has neither.
    return os.open(path, mode | getattr(os, "O_NONBLOCK", 0))
