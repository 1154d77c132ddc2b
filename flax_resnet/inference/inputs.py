"""Find the images that a command names: files, folders, patterns, a list on standard input."""

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

from flax_resnet.data.sources.listing import EXTENSIONS
from flax_resnet.errors import InputError, printable, require_local

STANDARD_INPUT = "-"


def find_images(words: Iterable[str], lines: Iterable[str] = ()) -> Iterator[str]:
    """Yield paths in the order of the words, those of a folder or pattern in alphabetical order.

    A folder stands for all images in it and below it. A file is yielded whatever its extension,
    and even if it does not exist: the error is raised where it is read.

    Args:
      lines: the paths that `-` stands for, one in each line.

    Raises:
      InputError: a folder has no images, or nothing matches a pattern.
    """
    for word in words:
        require_local(word)
        if word == STANDARD_INPUT:
            yield from (line for raw in lines if (line := raw.rstrip("\r\n")))
        elif Path(word).is_dir():
            yield from _not_empty(_below(Path(word)), f"{word} has no images in it", EXTENSIONS)
        elif glob.has_magic(word) and not Path(word).exists():
            found = sorted(glob.glob(word, recursive=True))  # noqa: PTH207  (absolute too)
            yield from _not_empty(found, f"nothing matches {word!r}", ())
        else:
            yield word


def _below(folder: Path) -> list[str]:
    paths = (path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
    return sorted(str(path) for path in paths if path.is_file())


def _not_empty(found: list[str], message: str, extensions: Iterable[str]) -> list[str]:
    if not found:
        names = f"; expected {', '.join(sorted(extensions))}" if extensions else ""
        raise InputError(f"{printable(message)}{names}")
    return found
