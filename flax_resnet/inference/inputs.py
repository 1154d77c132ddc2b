"""Which pictures a person means: files, folders, patterns, a list on standard input."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

from flax_resnet.data.sources.listing import EXTENSIONS
from flax_resnet.errors import InputError, printable

STANDARD_INPUT = "-"


def listed_pictures(words: Iterable[str], lines: Iterable[str] = ()) -> Iterator[str]:
    """Yield paths in the order of the words; of folders and patterns in alphabetical order.

    Of a folder all pictures count, however deep. A file that is named counts whatever it is called,
    and whether or not it is there: whoever reads it says so.

    Args:
      lines: what `-` stands for, a path a line.

    Raises:
      InputError: a folder has no pictures, or nothing fits a pattern.
    """
    for word in words:
        if word == STANDARD_INPUT:
            yield from (line for raw in lines if (line := raw.rstrip("\r\n")))
        elif Path(word).is_dir():
            yield from _some(_below(Path(word)), f"{word} has no pictures in it", EXTENSIONS)
        elif glob.has_magic(word) and not Path(word).exists():
            found = sorted(glob.glob(word, recursive=True))  # noqa: PTH207  (of any root)
            yield from _some(found, f"nothing fits {word!r}", ())
        else:
            yield word


def _below(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
    return sorted(str(path) for path in paths if path.is_file())


def _some(found: list[str], otherwise: str, expected: Iterable[str]) -> list[str]:
    if not found:
        names = f"; expected {', '.join(sorted(expected))}" if expected else ""
        raise InputError(f"{printable(otherwise)}{names}")
    return found
