"""Images listed in a table, with the file, the class and optionally the split in each row."""

import csv
import io
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flax_resnet.data.config import DataConfig
from flax_resnet.data.images.decode import DecodeError, read_file
from flax_resnet.data.sources.classes import check_distinct, without_fraction
from flax_resnet.data.sources.folder import FolderSource, canonical_split, shuffled
from flax_resnet.data.sources.source import resolve_split, split_size
from flax_resnet.data.sources.text import decode_text, from_windows, local_path
from flax_resnet.errors import InputError, printable, require_known, shortened, warn_once
from flax_resnet.files import replace_text

_COLUMNS = ("file", "label", "split")
_SPLITS = ("train", "validation", "test")
# Excel's first line, which says how the others are separated.
_SEPARATOR = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
# Beside 0.5 or 1.1, 1.0 is not a whole number.
_DECIMAL = re.compile(r"[+-]?\d*\.\d*[1-9]\d*")
# The most files that a warning names.
_SHOWN = 5
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
    root = table_folder(Path(rest))
    if not config.follow_links:
        _check_inside(rows, root, printable(rest))
    check_distinct({row.label for row in rows}, rest)
    _tell_repeated(rows, root, printable(rest))
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

    The delimiter is the most frequent of comma, semicolon and tab in the first line, unless that
    line is `sep=;`, with which Excel begins. Labels that are whole numbers have no fraction, since
    spreadsheets write the same class as 1 and as 1.0.

    Raises:
      InputError: the table cannot be read, lacks a column, or has an invalid row.
    """
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
    if not {"file", "label"} <= set(header):
        found = printable(", ".join(header)[:100]) or "nothing"
        raise InputError(f"{printable(path)} begins with {found}; {_LAYOUT}.")
    places = {name: header.index(name) for name in _COLUMNS if name in header}
    root = table_folder(path)
    rows = [
        _row(line, places, f"{printable(path)}, row {number}", root)
        for number, line in enumerate(lines[1:], 3 if named else 2)
        if any(line)
    ]
    if not rows:
        raise InputError(f"{printable(path)} lists no images; {_LAYOUT}.")
    if any(_DECIMAL.fullmatch(label) for label in {row.label for row in rows}):
        return rows
    return [row._replace(label=without_fraction(row.label)) for row in rows]


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


def _row(line: list[str], places: dict[str, int], where: str, root: Path) -> Row:
    cells = {name: line[at] if at < len(line) else "" for name, at in places.items()}
    file, label = cells["file"], from_windows(cells["label"].strip())
    if not file or not label or "\0" in file:
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
        ("label", "have two labels, of which one is wrong"),
        ("split", "are in two splits, so that an evaluation is of images from the training"),
    ):
        twice = []
        for same in found.values():
            values = sorted({getattr(row, column) for row in same})
            if len(values) > 1:
                twice.append(f"{same[0].file} ({' and '.join(values)})")
        if twice:
            warn_once(f"{table}: files that {harm}: {shortened(twice, _SHOWN)}")


def _check_inside(rows: list[Row], root: Path, table: str) -> None:
    for row in rows:
        if not Path(os.path.realpath(root / row.file)).is_relative_to(root):
            raise InputError(
                f"{table} lists {printable(row.file)}, which is outside of {printable(root)}. "
                "Set config.data.follow_links=True if you trust it, or remove the row."
            )
