"""List the folders and images of a source, without following links out of it."""

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
    """The folder of a source."""

    root: Path
    follow_links: bool
    """Whether symbolic links may lead out of `root`."""

    def is_folder(self, path: Path) -> bool:
        """Return whether a path is a folder."""
        with _clear_errors(path):
            if path.is_symlink():
                self._check_link(path)
            return path.is_dir()

    def folders(self, path: Path) -> list[str]:
        """Return the sorted names of the folders in a folder, without hidden ones."""
        found = []
        for entry in self._entries(path):
            with _clear_errors(entry):
                if entry.is_dir():
                    self._check_entry(entry)
                    found.append(entry.name)
        return found

    def images(self, path: Path) -> list[str]:
        """Return the sorted paths of the images in a folder, without hidden files.

        Raises:
          InputError: one is not a regular file, or is a link that leads out of the source.
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
        # scandir reports links without another system call per file.
        if entry.is_symlink():
            self._check_link(Path(entry.path))

    def _check_link(self, link: Path) -> None:
        if self.follow_links:
            return
        # Unlike `Path.resolve`, this does not raise for a link to itself; opening it does.
        target, root = (Path(os.path.realpath(path)) for path in (link, self.root))
        if not target.is_relative_to(root):
            raise InputError(
                f"{printable(link)} is a link to {printable(target)}; expected one that stays in "
                f"{printable(root)}. Set config.data.follow_links=True (finetune: --follow-links) "
                "if you trust it, or remove it."
            )


def open_tree(config: DataConfig, rest: str, layout: str) -> Tree:
    """Return the folder of "folder:PATH" or "masks:PATH".

    Args:
      rest: PATH.
      layout: the expected contents, for the error.
    """
    reason = "which is not a folder"
    try:
        root = Path(rest).expanduser()
        if rest and root.is_dir():
            return Tree(root, config.follow_links)
    except (
        OSError,
        RuntimeError,
    ) as error:  # The name is too long, the folder is not readable, or the user is unknown.
        reason = f"which cannot be opened ({getattr(error, 'strerror', None) or error})"
    raise InputError(f"config.data.source is {config.source!r}, {reason}; {layout}.")


def _check_plain(entry: os.DirEntry[str]) -> None:
    try:
        # scandir identifies regular files; only others need `stat`.
        kind = None if entry.is_file() else special_kind(entry.stat().st_mode)
    except OSError:  # Deleted, or a broken link: the loader reports it or skips it.
        return
    if kind is not None:
        raise InputError(
            f"{printable(entry.path)} is a {kind}; expected a file, because its name is that of "
            "an image. Rename or remove it."
        )


@contextmanager
def _clear_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{printable(path)} cannot be opened: {error.strerror}. Make it readable, or remove it."
        ) from error
