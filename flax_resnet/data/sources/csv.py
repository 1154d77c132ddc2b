"""Images listed in a table, with the file, the class or classes, and optionally the split."""

import csv
import io
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flax_resnet.data.config import DataConfig
from flax_resnet.data.images.decode import DecodeError, read_file
from flax_resnet.data.sources.classes import check_distinct, without_fraction
from flax_resnet.data.sources.folder import FolderSource, canonical_split, shuffled
from flax_resnet.data.sources.source import resolve_split, split_size
from flax_resnet.data.sources.text import decode_text, from_windows, local_path
from flax_resnet.errors import (
    InputError,
    printable,
    require_known,
    require_local,
    shortened,
    warn_once,
)
from flax_resnet.files import replace_text

# The key, in the file beside a table, of the folder where it was written.
FOLDER = "folder"
_COLUMNS = ("file", "label", "labels", "split")
# What separates the classes in a cell of `labels`.
_BETWEEN, _WRITTEN = re.compile("[;|]"), ";"
_SPLITS = ("train", "validation", "test")
# Excel's first line, which says how the others are separated.
_SEPARATOR = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
# Beside 0.5 or 1.1, 1.0 is not a whole number.
_DECIMAL = re.compile(r"[+-]?\d*\.\d*[1-9]\d*")
# The most files that a warning names.
_SHOWN = 5
_LAYOUT = (
    "expected a header 'file,label' or 'file,label,split', and a line for each image; or "
    "'file,labels', with any number of classes as in 'cat;dog'"
)
Label = str | tuple[str, ...]


class Row(NamedTuple):
    """An image of a table."""

    file: str
    """Its path, absolute or relative to the table's folder."""
    label: Label
    """A class; in a table with the column `labels`, all classes of the image, sorted."""
    split: str = "train"
    """train | validation | test"""


def open_csv(config: DataConfig, rest: str, split: str) -> FolderSource:
    """Return a split of "csv:PATH".

    Without a column `split`, all images are the train split, and slices of it serve as the others,
    as for folders. The sorted labels of the train split are the classes.
    """
    rows, name = read_table(Path(rest)), f"{config.source} {split}"
    root, rows = table_folder(Path(rest)), find_moved(Path(rest), rows)
    if not config.follow_links:
        _check_inside(rows, root, printable(rest))
    check_distinct(classes_of(rows), rest)
    _tell_repeated(rows, root, printable(rest))
    classes = sorted(classes_of(row for row in rows if row.split == "train"))
    extra = sorted(classes_of(rows) - set(classes))
    if not classes or extra:
        found = f"has the class {extra[0]!r}" if classes else "has no rows of the split 'train'"
        raise InputError(
            f"{rest} {found}; expected every class among those of the split 'train'. Move rows "
            "there, or remove them."
        )
    members = {known: [row for row in rows if row.split == known] for known in _SPLITS}
    sizes = {known: len(found) for known, found in members.items() if found}
    parts = resolve_split(config.source, canonical_split(split), sizes)
    if split_size(parts) == 0:
        raise InputError(f"{name} has no images; expected at least one. Widen the slice.")
    chosen = [
        members[known][at] for known, positions in parts for at in shuffled(sizes[known], positions)
    ]
    return FolderSource(
        name=name,
        root=str(root),
        files=np.array([os.fsencode(row.file) for row in chosen]),
        labels=_numbered(chosen, {label: number for number, label in enumerate(classes)}),
        class_names=tuple(classes),
        several_labels=has_several(rows),
    )


def labels_of(row: Row) -> tuple[str, ...]:
    """Return the classes of an image."""
    return row.label if isinstance(row.label, tuple) else (row.label,)


def classes_of(rows: Iterable[Row]) -> set[str]:
    """Return the classes that occur in a table."""
    return {label for row in rows for label in labels_of(row)}


def has_several(rows: Sequence[Row]) -> bool:
    """Return whether an image of the table can have any number of classes."""
    return bool(rows) and isinstance(rows[0].label, tuple)


def split_labels(text: str) -> tuple[str, ...]:
    """Return the classes in a cell of the column `labels`, such as `cat;dog` or `cat|dog`."""
    return tuple(sorted({part.strip() for part in _BETWEEN.split(text)} - {""}))


def join_labels(labels: Iterable[str]) -> str:
    """Return a cell of the column `labels`."""
    return _WRITTEN.join(labels)


def _numbered(rows: Sequence[Row], numbers: Mapping[str, int]) -> np.ndarray:
    """Return the class of each row, int64 (n,); with several labels bool (n, classes)."""
    if not has_several(rows):
        return np.array([numbers[label] for row in rows for label in labels_of(row)])
    found = np.zeros((len(rows), len(numbers)), np.bool_)
    for at, row in enumerate(rows):
        found[at, [numbers[label] for label in labels_of(row)]] = True
    return found


def read_table(path: Path) -> list[Row]:
    """Return the rows of a table, in order; their files need not exist.

    The delimiter is the most frequent of comma, semicolon and tab in the first line, unless that
    line is `sep=;`, with which Excel begins. Labels that are whole numbers have no fraction, since
    spreadsheets write the same class as 1 and as 1.0.

    Raises:
      InputError: the table cannot be read, lacks a column, or has an invalid row.
    """
    require_local(path)
    try:
        text = decode_text(read_file(path.expanduser()))
        first, _, rest = text.partition("\n")
        if named := _SEPARATOR.fullmatch(first.rstrip("\r")):
            text = rest
        delimiter = named[1] if named else max(",;\t", key=first.count)
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except (OSError, RuntimeError, DecodeError, UnicodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{printable(path)} cannot be read: {reason}; {_LAYOUT}.") from None
    header = [cell.strip().lower() for cell in lines[0]] if lines else []
    if "file" not in header or len({"label", "labels"} & set(header)) != 1:
        found = printable(", ".join(header)[:100]) or "nothing"
        raise InputError(f"{printable(path)} begins with {found}; {_LAYOUT}.")
    places = {name: header.index(name) for name in _COLUMNS if name in header}
    root = table_folder(path)
    numbered = list(enumerate(lines[1:], 3 if named else 2))
    if "labels" in places:
        _check_cells(numbered, len(header), printable(path))
    rows = [
        _row(line, places, f"{printable(path)}, row {number}", root)
        for number, line in numbered
        if any(line)
    ]
    if not rows:
        raise InputError(f"{printable(path)} lists no images; {_LAYOUT}.")
    if has_several(rows) and max(len(row.label) for row in rows) < 2:
        warn_once(
            f"{printable(path)} has the column 'labels' and no image with two; expected several "
            "classes in a cell to be separated by ; or |, as in 'cat;dog'"
        )
    if any(_DECIMAL.fullmatch(label) for label in classes_of(rows)):
        return rows
    return [row._replace(label=_without_fractions(row.label)) for row in rows]


def _without_fractions(label: Label) -> Label:
    if isinstance(label, str):
        return without_fraction(label)
    return tuple(sorted(set(map(without_fraction, label))))


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write a table atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "labels" if has_several(rows) else "label", "split"))
    writer.writerows((row.file, join_labels(labels_of(row)), row.split) for row in rows)
    replace_text(path, text.getvalue())


def table_folder(path: Path) -> Path:
    """Return the folder to which the paths of a table are relative, with all links resolved.

    Paths may contain "..", and the parent of a link's target differs from that of the link.
    """
    return Path(os.path.realpath(path.expanduser().parent))


def find_moved(path: Path, rows: list[Row]) -> list[Row]:
    """Return a table's rows, with absolute paths if it was moved without its images.

    The JSON file beside it, such as split.json for split.csv, says where it was written.
    """
    here = table_folder(path)
    try:
        there = str(json.loads(path.expanduser().with_suffix(".json").read_text())[FOLDER])
    except (OSError, ValueError, TypeError, KeyError, RuntimeError):
        return rows
    # The folder may be gone, so ".." in a path cannot be left to the system.
    moved = [
        row._replace(file=os.path.normpath(os.path.join(there, row.file)))  # noqa: PTH118
        for row in rows
    ]
    left = rows and not (here / rows[0].file).exists() and Path(moved[0].file).exists()
    return moved if left else rows


def _check_cells(numbered: Iterable[tuple[int, list[str]]], count: int, table: str) -> None:
    """Raise `InputError` for a row whose classes are in cells of their own, which would be lost."""
    for number, line in numbered:
        if any(line[count:]):
            raise InputError(
                f"{table}, row {number} has {len(line)} cells and the header {count}; expected all "
                "classes of an image in one cell, separated by |, or by ; in double quotes"
            )


def _row(line: list[str], places: dict[str, int], where: str, root: Path) -> Row:
    cells = {name: line[at] if at < len(line) else "" for name, at in places.items()}
    # The table is UTF-8; file names are in the system's encoding.
    file = os.fsdecode(cells["file"].encode("utf-8", "surrogateescape"))
    label: Label = from_windows(cells.get("label", "").strip())
    if "labels" in cells:
        label = split_labels(from_windows(cells["labels"]))
    if not file or label == "" or "\0" in file:
        raise InputError(f"{where} has the file {file!r} and the label {label!r}; expected both.")
    split = canonical_split(cells.get("split", "").strip().lower() or "train")
    require_known(f"{where}: the split", split, _SPLITS)
    return Row(local_path(file, root), label, split)


def _tell_repeated(rows: list[Row], root: Path, table: str) -> None:
    """Warn of files with two labels, and of files that are in two splits."""
    files = [os.path.normpath(os.path.join(root, row.file)) for row in rows]  # noqa: PTH118, fast
    if len(set(files)) == len(files):
        return
    found: dict[str, list[Row]] = defaultdict(list)
    for file, row in zip(files, rows, strict=True):
        found[file].append(row)
    for column, harm in (
        ("label", _two_labels(has_several(rows))),
        ("split", "are in two splits, so that an evaluation is of images from the training"),
    ):
        twice = []
        for same in found.values():
            cells = [
                join_labels(labels_of(row)) if column == "label" else row.split for row in same
            ]
            values = sorted(set(cells))
            if len(values) > 1:
                twice.append(f"{same[0].file} ({' and '.join(values)})")
        if twice:
            warn_once(f"{table}: files that {harm}: {shortened(twice, _SHOWN)}")


def _two_labels(several: bool) -> str:
    if several:
        return "are in several rows with different labels; expected all of them in one row"
    return (
        "have two labels, of which one is wrong. If an image can have several, name the column "
        "'labels' and separate them, as in 'cat;dog', in one row"
    )


def _check_inside(rows: list[Row], root: Path, table: str) -> None:
    for row in rows:
        if not Path(os.path.realpath(root / row.file)).is_relative_to(root):
            raise InputError(
                f"{table} lists {printable(row.file)}, which is outside of {printable(root)}. "
                "Set config.data.follow_links=True if you trust it, or remove the row."
            )
