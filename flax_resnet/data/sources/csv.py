"""Images listed in a table, with the file, the class and optionally the split in each row."""

import csv
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flax_resnet.data.config import DataConfig
from flax_resnet.data.images.decode import DecodeError, read_file
from flax_resnet.data.sources.folder import FolderSource, canonical_split, shuffled
from flax_resnet.data.sources.source import resolve_split, split_size
from flax_resnet.errors import InputError, printable, require_known, require_local
from flax_resnet.files import replace_text

# The key, in the file beside a table, of the folder where it was written.
FOLDER = "folder"
_COLUMNS = ("file", "label", "split")
_SPLITS = ("train", "validation", "test")
_LAYOUT = "expected a header 'file,label' or 'file,label,split', and a line for each image"


class Row(NamedTuple):
    """An image of a table."""

    file: str
    """Its path, absolute or relative to the table's folder."""
    label: str
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
    classes = sorted({row.label for row in rows if row.split == "train"})
    extra = sorted({row.label for row in rows} - set(classes))
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
    numbers = {label: number for number, label in enumerate(classes)}
    return FolderSource(
        name=name,
        root=str(root),
        files=np.array([os.fsencode(row.file) for row in chosen]),
        labels=np.array([numbers[row.label] for row in chosen]),
        class_names=tuple(classes),
    )


def read_table(path: Path) -> list[Row]:
    """Return the rows of a table, in order; their files need not exist.

    The delimiter is the most frequent of comma, semicolon and tab in the first line.

    Raises:
      InputError: the table cannot be read, lacks a column, or has an invalid row.
    """
    require_local(path)
    try:
        # Drops the byte order mark of spreadsheets and keeps file names that are not UTF-8.
        text = read_file(path.expanduser()).decode("utf-8-sig", "surrogateescape")
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except (OSError, RuntimeError, DecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{printable(path)} cannot be read: {reason}; {_LAYOUT}.") from None
    header = [cell.strip().lower() for cell in lines[0]] if lines else []
    if not {"file", "label"} <= set(header):
        found = printable(", ".join(header)[:100]) or "nothing"
        raise InputError(f"{printable(path)} begins with {found}; {_LAYOUT}.")
    places = {name: header.index(name) for name in _COLUMNS if name in header}
    rows = [
        _row(line, places, f"{printable(path)}, row {number}")
        for number, line in enumerate(lines[1:], 2)
        if line
    ]
    if not rows:
        raise InputError(f"{printable(path)} lists no images; {_LAYOUT}.")
    return rows


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Write a table atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows(rows)
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


def _row(line: list[str], places: dict[str, int], where: str) -> Row:
    cells = {name: line[at] if at < len(line) else "" for name, at in places.items()}
    # The table is UTF-8; file names are in the system's encoding.
    file = os.fsdecode(cells["file"].encode("utf-8", "surrogateescape"))
    label = cells["label"].strip()
    if not file or not label or "\0" in file:
        raise InputError(f"{where} has the file {file!r} and the label {label!r}; expected both.")
    split = canonical_split(cells.get("split", "").strip().lower() or "train")
    require_known(f"{where}: the split", split, _SPLITS)
    return Row(file, label, split)


def _check_inside(rows: list[Row], root: Path, table: str) -> None:
    for row in rows:
        if not Path(os.path.realpath(root / row.file)).is_relative_to(root):
            raise InputError(
                f"{table} lists {printable(row.file)}, which is outside of {printable(root)}. "
                "Set config.data.follow_links=True if you trust it, or remove the row."
            )
