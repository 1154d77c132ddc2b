"""Write files whole or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flax_resnet.errors import InputError, require_local


@contextlib.contextmanager
def writable(path: str | os.PathLike[str], advice: str = "") -> Iterator[None]:
    """Turn an `OSError` of the block into an `InputError` that names `path`.

    Args:
      advice: a sentence about what to do, without its full stop.

    Raises:
      InputError: also if `path` is an address, before the block begins.
    """
    require_local(Path(path))
    try:
        yield
    except OSError as error:
        reason = f"{path} cannot be written to: {error.strerror or error}"
        raise InputError(f"{reason}. {advice}" if advice else reason) from None


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path, with the suffix of `path`, which the block writes.

    At the end of the block that file replaces `path`, so that a reader, or a run after a power cut,
    finds either the complete old file or the complete new one. An error removes it.
    """
    path = Path(path)
    require_local(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        descriptor = os.open(temporary, os.O_RDWR)
        try:
            os.fsync(descriptor)  # otherwise a power cut may leave the new name on an empty file
        finally:
            os.close(descriptor)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def filling(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder, which the block fills.

    At the end of the block its files move into `folder`. An error removes them, and leaves `folder`
    as it was.
    """
    folder = Path(folder).absolute()
    home = next(parent for parent in folder.parents if parent.is_dir())
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=home) as temporary:
        part = Path(temporary) / folder.name
        part.mkdir()
        yield part
        shutil.copytree(part, folder, copy_function=shutil.move, dirs_exist_ok=True)


def replace_bytes(path: Path, data: bytes) -> None:
    """Write bytes to a file, as `replacing` does."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def replace_text(path: Path, text: str) -> None:
    """Write text to a file in UTF-8, as `replacing` does.

    Bytes of file names that are not UTF-8 are written unchanged.
    """
    replace_bytes(path, text.encode("utf-8", "surrogateescape"))
