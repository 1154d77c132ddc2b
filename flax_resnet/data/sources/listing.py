"""List the folders and images of a source, without being led out of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flax_resnet.data.config import DataConfig
from flax_resnet.data.images.decode import special_kind
from flax_resnet.errors import InputError, printable

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"})


@dataclass(frozen=True)
class Tree:
    """A source's folder with all that is below it."""

    root: Path
    follow_links: bool
    """Whether symbolic links may lead out of `root`."""

    def is_folder(self, path: Path) -> bool:
        """Tell whether there is a folder at a path."""
        with _clear_errors(path):
            if path.is_symlink():
                self._check_link(path)
            return path.is_dir()

    def folders(self, path: Path) -> list[str]:
        """Return the sorted names of the folders in a folder; hidden ones are passed over."""
        found = []
        for entry in self._entries(path):
            with _clear_errors(entry):
                if entry.is_dir():
                    self._check_entry(entry)
                    found.append(entry.name)
        return found

    def images(self, path: Path) -> list[str]:
        """Return the sorted paths of the images in a folder; hidden files are passed over.

        Raises:
          InputError: one is no plain file, or a link that leads out of the source.
        """
        found = []
        for entry in self._entries(path):
            if Path(entry.name).suffix.lower() in EXTENSIONS:
                self._check_entry(entry)
                _check_plain(entry)
                found.append(entry.path)
        return found

    def _entries(self, path: Path) -> list[os.DirEntry[str]]:
        with _clear_errors(path), os.scandir(path) as entries:
            shown = (entry for entry in entries if entry.name[0] != ".")
            return sorted(shown, key=lambda entry: entry.name)

    def _check_entry(self, entry: os.DirEntry[str]) -> None:
        # The folder's listing says what is a link: a million plain files cost no further look.
        if entry.is_symlink():
            self._check_link(Path(entry.path))

    def _check_link(self, link: Path) -> None:
        if self.follow_links:
            return
        # `Path.resolve` raises for a link to itself; this leaves it to whoever opens it.
        target, root = (Path(os.path.realpath(path)) for path in (link, self.root))
        if not target.is_relative_to(root):
            raise InputError(
                f"{printable(link)} is a link to {printable(target)}; expected one that stays in "
                f"{printable(root)}. Set config.data.follow_links=True (finetune: --follow-links) "
                "if you trust it, or remove it."
            )


def open_tree(config: DataConfig, rest: str, layout: str) -> Tree:
    """Return the folder that "folder:PATH" or "masks:PATH" names.

    Args:
      rest: PATH.
      layout: what was expected in it, for the error.
    """
    reason = "which is no folder"
    try:
        root = Path(rest).expanduser()
        if rest and root.is_dir():
            return Tree(root, config.follow_links)
    except (OSError, RuntimeError) as error:  # A name too long, a locked folder, no such user.
        reason = f"which cannot be opened ({getattr(error, 'strerror', None) or error})"
    raise InputError(f"config.data.source is {config.source!r}, {reason}; {layout}.")


def _check_plain(entry: os.DirEntry[str]) -> None:
    try:
        # The listing itself tells plain files, and `stat` is for the rest.
        kind = None if entry.is_file() else special_kind(entry.stat().st_mode)
    except OSError:  # It has gone, or is a link to nothing: the loader names it, or skips it.
        return
    if kind is not None:
        raise InputError(
            f"{printable(entry.path)} is a {kind}; expected a file, for its name is an image's. "
            "Rename or remove it."
        )


@contextmanager
def _clear_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{printable(path)} cannot be opened: {error.strerror}. Make it readable, or remove it."
        ) from error
