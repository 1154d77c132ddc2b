"""The split of a user's images: drawn once, and stored in the folder of the run."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flax_resnet.data.sources.csv import FOLDER, Row, find_moved, read_table, write_table
from flax_resnet.errors import InputError, printable, require_local
from flax_resnet.files import replace_text, writable
from flax_resnet.finetune.changes import find_changes, mark_files
from flax_resnet.finetune.pictures import (
    Report,
    find_labeled_images,
    hold_out,
    leave_out_unreadable,
)
from flax_resnet.training import workdir as run_folder

TABLE = "split.csv"
# The choices that made the table; written after it, so its presence shows that both are complete.
CHOICES = "split.json"
_MARKS = "images"


def settle_split(
    workdir: Path,
    photos: Path,
    table: Path | None = None,
    fraction: float = 0.2,
    seed: int = 0,
    report: Report = lambda done, total: None,
    *,
    follow_links: bool = False,
    keep: bool = False,
) -> tuple[list[Row], dict[str, str]]:
    """Return the rows of WORKDIR/split.csv, which is created if it does not exist.

    Its paths are relative to its own folder, so a project of images and runs can be moved.

    Args:
      photos, table, follow_links: see `find_labeled_images`.
      fraction, seed: see `hold_out`.
      report: called for each image that is checked.
      keep: return an earlier split even if the images have changed since.

    Returns:
      The rows, and the reasons why images were left out in this call, by file.

    Raises:
      InputError: the images are not a usable data set or have changed since they were split, the
        folder has a run of other data or choices, or it cannot be written to.
    """
    for path in (workdir, photos):
        require_local(path)
    home = Path(os.path.realpath(workdir))
    choices: dict[str, Any] = {
        "photos": _relative(photos, home),
        "csv": None if table is None else _relative(table, home),
        "validation": fraction,
        "seed": seed,
    }
    before = _earlier_choices(workdir, home, choices)
    if before is not None:
        rows = read_table(workdir / TABLE)
        if not keep:
            _check_unchanged(
                workdir, rows, before, find_labeled_images(photos, table, follow_links)
            )
        return rows, {}
    images = find_labeled_images(photos, table, follow_links)
    readable, reasons = leave_out_unreadable(images, report)
    split = hold_out(readable, fraction, seed)
    marks = {_relative(Path(file), home): mark for file, mark in mark_files(split).items()}
    rows = [row._replace(file=_relative(Path(row.file), home)) for row in split]
    with writable(workdir, "Use another --workdir"):
        workdir.mkdir(parents=True, exist_ok=True)
        write_table(workdir / TABLE, rows)
        stored = choices | {FOLDER: str(home), _MARKS: marks}
        replace_text(workdir / CHOICES, json.dumps(stored, indent=1) + "\n")
    return rows, reasons


def photos_name(workdir: Path) -> str | None:
    """Return the name of the folder of images that a run was started with; None: of no such run."""
    try:
        photos = json.loads((workdir / CHOICES).read_text())["photos"]
        return Path(os.path.realpath(workdir), photos).resolve().name
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _earlier_choices(
    workdir: Path, home: Path, choices: dict[str, Any]
) -> Mapping[str, Any] | None:
    """Return what was stored with the folder's split, which these choices made; None: no split."""
    path = workdir / CHOICES
    if not path.exists():
        if (workdir / run_folder.CONFIG).exists():
            raise InputError(f"{workdir} has a run of other data; use another --workdir")
        return None
    try:
        before = dict(json.loads(path.read_text()))
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}. Use another --workdir") from None
    # The run may have been moved without the images.
    homes = (home, before.get(FOLDER, home))
    changed = [
        f"{key}: {printable(str(before.get(key)))} before, {printable(str(value))} now"
        for key, value in choices.items()
        if before.get(key) != value and not _same_file(before.get(key), value, homes)
    ]
    if changed:
        raise InputError(
            f"{workdir} has a run of other images:\n  "
            + "\n  ".join(changed)
            + "\nUse another --workdir."
        )
    return before


def _check_unchanged(
    workdir: Path, rows: list[Row], before: Mapping[str, Any], now: list[Row]
) -> None:
    """Raise `InputError` if the images are not those of the split."""
    home = Path(os.path.realpath(workdir))
    found = [
        row._replace(file=os.path.realpath(home / row.file))
        for row in find_moved(workdir / TABLE, rows)
    ]
    stored = before.get(_MARKS, {})
    marks = {
        there.file: stored[row.file]
        for row, there in zip(rows, found, strict=True)
        if row.file in stored
    }
    changes = find_changes(found, now, marks)
    if changes:
        raise InputError(
            f"the images have changed since {printable(workdir / TABLE)} was written:\n  "
            + "\n  ".join(changes)
            + "\nTo train on the images as they are now, use another --workdir. To continue with "
            "the split as it was, without what is new, pass --keep-split."
        )


def _same_file(before: object, now: object, homes: tuple[Path | str, ...]) -> bool:
    if not isinstance(before, str) or not isinstance(now, str):
        return False
    here = os.path.realpath(homes[0] / Path(now))
    return any(os.path.realpath(Path(home) / before) == here for home in homes)


def _relative(path: Path, home: Path) -> str:
    return os.path.relpath(os.path.realpath(path.expanduser()), home)
