"""Find the images that a command names: files, folders, patterns, a list on standard input."""

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

from flax_resnet.data.images.decode import FORMATS
from flax_resnet.data.sources.listing import Tree, counted, is_hidden
from flax_resnet.data.sources.text import listed_files
from flax_resnet.errors import InputError, printable

STANDARD_INPUT = "-"


def find_images(words: Iterable[str], lines: Iterable[str] = ()) -> Iterator[str]:
    """Yield paths in the order of the words, those of a folder or pattern in alphabetical order.

    A folder stands for all images in it and below it, without hidden ones. A file is yielded
    whatever its extension, and even if it does not exist: the error is raised where it is read.

    Args:
      lines: the paths that `-` stands for, one in each line.

    Raises:
      InputError: a folder has no images, or nothing matches a pattern.
    """
    for word in words:
        if word == STANDARD_INPUT:
            yield from listed_files(lines)
        elif Path(word).is_dir():
            yield from _below(word)
        elif glob.has_magic(word) and not Path(word).exists():
            yield from _matches(word)
        else:
            yield word


def _below(folder: str) -> list[str]:
    tree = Tree(Path(folder), follow_links=True)
    found = _images(tree)
    if not found:
        others = counted(tree.passed_over)
        raise InputError(
            f"{printable(folder)} has no images in it{others and f', but {others}'}; "
            f"expected {FORMATS}"
        )
    tree.tell_passed_over()
    return found


def _matches(pattern: str) -> Iterator[str]:
    found = [
        path
        for path in sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207  (absolute too)
        if not any(is_hidden(part) and part not in pattern for part in Path(path).parts)
    ]
    if not found:
        raise InputError(f"nothing matches {printable(repr(pattern))}")
    for path in found:
        if not Path(path).is_dir():
            yield path
        elif "**" not in pattern:  # which matches the images in the folder as well
            yield from _images(Tree(Path(path), follow_links=True))


def _images(tree: Tree) -> list[str]:
    return sorted(str(Path(path)) for path in tree.images(tree.root))
