"""List the folders and images of a source, without following links out of it."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flax_resnet.data.config import DataConfig
from flax_resnet.data.images.decode import SUFFIXES, special_kind
from flax_resnet.errors import InputError, printable, shortened, warn_once

# What systems and programs put beside a person's images, in lower case. Names that begin with a
# dot, such as ._x.jpg and .ipynb_checkpoints, are hidden as well.
_LITTER = {
    "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "@eadir", "lost+found",
    "system volume information",
}  # fmt: skip
# Files that a run has from its first minute: of training, and of fine-tuning.
_RUN_FILES = (("config.json", "checkpoints"), ("split.csv", "split.json"))


def is_hidden(name: str) -> bool:
    """Return whether files and folders of this name are never taken for a person's."""
    return name.startswith(".") or name.casefold() in _LITTER


def counted(kinds: Counter[str]) -> str:
    """Return how many files there are of each kind, for a message."""
    order = sorted(kinds, key=lambda kind: (-kinds[kind], kind))
    return shortened((f"{kind} ({kinds[kind]:,})" for kind in order), 8)


def is_image(name: str) -> bool:
    """Return whether a file of this name can be decoded."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122, fast for a million


@dataclass(frozen=True)
class Tree:
    """The folder of a source."""

    root: Path
    follow_links: bool
    """Whether symbolic links may lead out of `root`."""
    passed_over: Counter[str] = field(default_factory=Counter, compare=False)
    """How many files of each kind were listed that are not images, such as `.txt`."""
    beside: Counter[str] = field(default_factory=Counter, compare=False)
    """How many images are in folders that are not listed."""

    def is_folder(self, path: Path) -> bool:
        """Return whether a path is a folder."""
        with _clear_errors(path):
            if path.is_symlink():
                self._check_link(path)
            return path.is_dir()

    def folders(self, path: Path) -> list[str]:
        """Return the sorted names of the folders in a folder, without hidden ones and runs."""
        found = []
        for entry in self._entries(path):
            with _clear_errors(entry):
                if entry.is_dir():
                    self._check_entry(entry)
                    if not self._holds_runs(entry):
                        found.append(entry.name)
        return found

    def count_images(self, path: Path) -> int:
        """Return how many images lie in a folder itself, not below it."""
        return sum(is_image(entry.name) for entry in self._entries(path))

    def images(self, path: Path) -> list[str]:
        """Return the paths of the images in a folder and below it, without hidden files.

        Those of each folder are sorted, and come before those of the folders in it. Other files
        are counted in `passed_over`.

        Raises:
          InputError: one is not a regular file, or is a link that leads out of the source.
        """
        return list(self._below(path, ()))

    def tell_passed_over(self) -> None:
        """Warn, once, of what is passed over."""
        for kinds in (self.beside, self.passed_over):
            if kinds:
                warn_once(f"{printable(self.root)}: passed over: {counted(kinds)}")

    def _below(self, path: str | Path, trail: tuple[str, ...]) -> Iterator[str]:
        """Yield the images in a folder and below it.

        Args:
          trail: where the links led that were followed to `path`.
        """
        folders = []
        for entry in self._entries(path):
            if is_image(entry.name):
                self._check_entry(entry)
                _check_plain(entry)
                yield entry.path
            elif _is_folder(entry):
                folders.append(entry)
            else:
                suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122, as above
                self.passed_over[suffix or "no suffix"] += 1
        for entry in folders:
            if not entry.is_symlink():
                if not _is_run(entry.path):
                    yield from self._below(entry.path, trail)
                continue
            self._check_entry(entry)
            target, here = os.path.realpath(entry), os.path.realpath(path)
            if not any(Path(each).is_relative_to(target) for each in (here, *trail)):
                yield from self._below(entry.path, (*trail, here, target))

    def _holds_runs(self, folder: os.DirEntry[str]) -> bool:
        """Return whether a folder is a run, or one of runs, as `finetune .` puts beside classes."""
        if _is_run(folder.path):
            return True
        with os.scandir(folder) as entries:
            for entry in entries:
                # A folder of a class mostly begins with an image.
                if is_image(entry.name):
                    return False
                if not is_hidden(entry.name) and entry.is_dir() and _is_run(entry.path):
                    return True
        return False

    def _entries(self, path: str | Path) -> list[os.DirEntry[str]]:
        with _clear_errors(path), os.scandir(path) as entries:
            shown = (entry for entry in entries if not is_hidden(entry.name))
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


def _is_folder(entry: os.DirEntry[str]) -> bool:
    with _clear_errors(entry):
        return entry.is_dir()


def _is_run(folder: str) -> bool:
    return any(all(os.path.exists(f"{folder}/{n}") for n in names) for names in _RUN_FILES)  # noqa: PTH110, raises nothing


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
