"""Images in one folder per class."""

import functools
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flax_resnet.data.config import DataConfig
from flax_resnet.data.images.decode import FORMATS, read_file
from flax_resnet.data.positions import permutation
from flax_resnet.data.sources.classes import check_distinct
from flax_resnet.data.sources.listing import Tree, counted, open_tree
from flax_resnet.data.sources.source import Example, resolve_split, split_size
from flax_resnet.errors import InputError, printable, shortened

_ALIASES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
}
LAYOUT = "expected PATH/train/CLASS/*.jpg and PATH/val/CLASS/*.jpg, or PATH/CLASS/*.jpg"


@dataclass(frozen=True)
class FolderSource:
    """The image files of a split."""

    name: str
    root: str
    files: np.ndarray
    """bytes (n,): paths relative to `root`. An array needs a tenth of the memory of strings."""
    labels: np.ndarray
    """int64 (n,); bool (n, classes) where an image has any number of labels."""
    class_names: tuple[str, ...]
    named: bool = True
    several_labels: bool = False

    @property
    def num_classes(self) -> int:
        """Return the number of class folders of the train split."""
        return len(self.class_names)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.files)

    def __getitem__(self, index: int) -> Example:
        """Return the bytes and the label or labels of a file."""
        label = self.labels[index]
        known = tuple(np.flatnonzero(label).tolist()) if self.several_labels else int(label)
        return {"image": read_file(self._path(index)), "label": known}

    def describe(self, index: int) -> str:
        """Return the path of the file."""
        return printable(f"{self._path(index)} ({self.name})")

    def place(self, index: int) -> str:
        """Return the path of the file below the folder that has all files of the split."""
        return printable(os.path.relpath(self._path(index), self._home))

    @functools.cached_property
    def _home(self) -> str:
        folders = {bytes(file).rpartition(os.fsencode(os.sep))[0] for file in self.files}
        paths = [Path(self.root, os.fsdecode(folder)).absolute() for folder in folders]
        return os.path.commonpath([os.path.normpath(path) for path in paths])

    def _path(self, index: int) -> Path:
        return Path(self.root, os.fsdecode(bytes(self.files[index])))


def open_folder(config: DataConfig, rest: str, split: str) -> FolderSource:
    """Return a split of "folder:PATH".

    Without split folders, the classes below PATH are the train split, and slices of it serve as
    the others. Slices refer to a fixed shuffled order: a prefix of the sorted files lacks classes.
    """
    tree = open_tree(config, rest, LAYOUT)
    name = f"{config.source} {split}"
    folders = split_folders(tree, name, LAYOUT)
    classes = _classes(tree, folders["train"])
    spec = canonical_split(split)
    wanted = [known for known in folders if known in spec] or list(folders)
    listed = {known: _listing(tree, folders[known], classes, known == "train") for known in wanted}
    tree.tell_passed_over()
    sizes = {known: len(listed[known][0]) if known in listed else 0 for known in folders}
    parts = resolve_split(config.source, spec, sizes)
    if split_size(parts) == 0:
        raise InputError(f"{name} has no images; expected at least one. Widen the slice.")
    chosen = [(listed[known], shuffled(sizes[known], positions)) for known, positions in parts]
    return FolderSource(
        name=name,
        root=str(tree.root),
        files=np.concatenate([files[at] for (files, _), at in chosen]),
        labels=np.concatenate([labels[at] for (_, labels), at in chosen]),
        class_names=tuple(classes),
    )


def split_folders(tree: Tree, name: str, layout: str) -> dict[str, Path]:
    """Return {"train": folder, "validation": folder, ...} of the existing splits.

    The case of their names does not matter. Folders with the names of splits are classes if all of
    them have images and no folders, and there are other folders beside them.

    Args:
      name: the source and the split, for errors.
      layout: the expected contents, for errors.

    Raises:
      InputError: two folders are one split, or there is no train split.
    """
    named: dict[str, list[str]] = defaultdict(list)
    beside: list[str] = []
    for folder in tree.folders(tree.root, check_links=False):
        split = canonical_split(folder)
        if split not in _ALIASES:
            beside.append(folder)
        elif tree.is_folder(tree.root / folder):
            named[split].append(folder)
    flat = [name for found in named.values() for name in found if _is_flat(tree, tree.root / name)]
    if not named or (beside and len(flat) == sum(map(len, named.values()))):
        return {"train": tree.root}
    where = f"{name}: {printable(tree.root)}"
    for found in named.values():
        if len(found) > 1:
            raise InputError(
                f"{where} has {' and '.join(found)}, which are one split; expected one folder for "
                "each. Put them together, or rename one."
            )
    splits = [found[0] for found in named.values()]
    if "train" not in named:
        raise InputError(
            f"{where} has {', '.join(splits)} and no train folder, which names the classes; "
            f"{layout}."
        )
    if named["train"][0] in flat:
        raise InputError(
            f"{where} has {shortened(splits)}, with images but no class folders; {layout}. Sort "
            "the images into folders of their classes. If these are the classes, put them "
            "together into another folder called train."
        )
    for folder in beside:
        if count := tree.count_below(tree.root / folder):
            tree.beside[f"images in {folder}, beside {shortened(splits)}"] = count
    return {split: tree.root / found[0] for split, found in named.items()}


def _is_flat(tree: Tree, folder: Path) -> bool:
    return tree.count_images(folder) > 0 and not tree.folders(folder)


def _classes(tree: Tree, folder: Path) -> list[str]:
    """Return the names of the class folders in the folder of the train split.

    Raises:
      InputError: there are none, two names are alike, or a single folder has all class folders.
    """
    classes = tree.folders(folder)
    if not classes:
        raise InputError(f"{printable(folder)} has no class folders; {LAYOUT}.")
    check_distinct(classes, str(folder))
    inner, below = folder, classes
    while len(below) == 1 and not tree.count_images(inner / below[0]):
        inner = inner / below[0]
        below = tree.folders(inner)
    if inner != folder and len(below) > 1:
        raise InputError(
            f"{printable(folder)} has one folder, with the folders {shortened(below)} in "
            f"{printable(inner)}; {LAYOUT}. If they are the classes or the splits, pass "
            f"{printable(inner)} instead."
        )
    return classes


def canonical_split(split: str) -> str:
    """Return a spec with all aliases of splits replaced, such as val by validation."""
    parts = []
    for part in split.split("+"):
        name, bracket, rest = part.strip().partition("[")
        known = next(
            (known for known, aliases in _ALIASES.items() if name.lower() in aliases), name
        )
        parts.append(known + bracket + rest)
    return "+".join(parts)


def _listing(
    tree: Tree, folder: Path, classes: list[str], names_classes: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the sorted files, bytes (n,) relative to `root`, and labels, int64 (n,)."""
    extra = sorted(set(tree.folders(folder)) - set(classes))
    if extra:
        check_distinct([*classes, *extra], f"{folder}, with the train split,")
        raise InputError(
            f"{printable(folder)} has the class {extra[0]!r}, which the train split lacks; "
            "expected the same class folders in every split. Move it, or add it to train."
        )
    loose = tree.count_images(folder)
    if loose:
        tree.passed_over["images beside the class folders"] += loose
    files: list[bytes] = []
    counts = []
    for name in classes:
        before = tree.passed_over.copy()
        images = tree.images(folder / name) if tree.is_folder(folder / name) else []
        if not images and names_classes:
            others = counted(tree.passed_over - before)
            raise InputError(
                f"{printable(folder / name)} has no images{others and f', but {others}'}; "
                f"expected at least one {FORMATS} for each class. Fill the folder or remove it."
            )
        files += [os.fsencode(os.path.relpath(path, tree.root)) for path in images]
        counts.append(len(images))
    if not files:
        beside = f", but {loose:,} beside them" if loose else ""
        raise InputError(
            f"{printable(folder)} has no images in its class folders{beside}; {LAYOUT}."
        )
    return np.array(files), np.repeat(np.arange(len(classes)), counts)


def shuffled(length: int, positions: range) -> np.ndarray:
    """Return the examples of a slice of a split, in a fixed shuffled order."""
    return permutation(0, 0, length)[positions.start : positions.stop]
