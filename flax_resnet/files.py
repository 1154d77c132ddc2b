"""Files that are there whole or not at all."""

import os
from pathlib import Path


def replace_text(path: Path, text: str) -> None:
    """Write `text` to a file, as `replace_bytes` does.

    It becomes UTF-8, whatever the machine's own; what of a file's name is none is kept.
    """
    replace_bytes(path, text.encode("utf-8", "surrogateescape"))


def replace_bytes(path: Path, data: bytes) -> None:
    """Write a file so that a reader, or a restart, finds what was there or what is new, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave the new name on an empty file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
