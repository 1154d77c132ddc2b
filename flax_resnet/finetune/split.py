"""The split of a user's images: drawn once, and stored in the folder of the run."""

import json
import os
from pathlib import Path

from flax_resnet.data.sources.csv import Row, read_table, write_table
from flax_resnet.errors import InputError, printable
from flax_resnet.files import replace_text, writable
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


def settle_split(
    workdir: Path,
    photos: Path,
    table: Path | None = None,
    fraction: float = 0.2,
    seed: int = 0,
    report: Report = lambda done, total: None,
    *,
    follow_links: bool = False,
) -> tuple[list[Row], dict[str, str]]:
    """Return the rows of WORKDIR/split.csv, which is created if it does not exist.

    Its paths are relative to its own folder, so a project of images and runs can be moved.

    Args:
      photos, table, follow_links: see `find_labeled_images`.
      fraction, seed: see `hold_out`.
      report: called for each image that is checked.

    Returns:
      The rows, and the reasons why images were left out in this call, by file.

    Raises:
      InputError: the images are not a usable data set, the folder has a run of other data or
        choices, or it cannot be written to.
    """
    home = Path(os.path.realpath(workdir))
    choices: dict[str, object] = {
        "photos": _relative(photos, home),
        "csv": None if table is None else _relative(table, home),
        "validation": fraction,
        "seed": seed,
    }
    if _earlier_choices(workdir, choices):
        return read_table(workdir / TABLE), {}
    images = find_labeled_images(photos, table, follow_links)
    readable, reasons = leave_out_unreadable(images, report)
    rows = [
        row._replace(file=_relative(Path(row.file), home))
        for row in hold_out(readable, fraction, seed)
    ]
    with writable(workdir, "Use another --workdir"):
        workdir.mkdir(parents=True, exist_ok=True)
        write_table(workdir / TABLE, rows)
        replace_text(workdir / CHOICES, json.dumps(choices, indent=2) + "\n")
    return rows, reasons


def photos_name(workdir: Path) -> str | None:
    """Return the name of the folder of images that a run was started with; None: of no such run."""
    try:
        photos = json.loads((workdir / CHOICES).read_text())["photos"]
        return Path(os.path.realpath(workdir), photos).resolve().name
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _earlier_choices(workdir: Path, choices: dict[str, object]) -> bool:
    """Return whether the folder has a split that was made with these choices."""
    path = workdir / CHOICES
    if not path.exists():
        if (workdir / run_folder.CONFIG).exists():
            raise InputError(f"{workdir} has a run of other data; use another --workdir")
        return False
    try:
        before = dict(json.loads(path.read_text()))
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}. Use another --workdir") from None
    changed = [
        f"{key}: {printable(str(before.get(key)))} before, {printable(str(value))} now"
        for key, value in choices.items()
        if before.get(key) != value
    ]
    if changed:
        raise InputError(
            f"{workdir} has a run of other images:\n  "
            + "\n  ".join(changed)
            + "\nUse another --workdir."
        )
    return True


def _relative(path: Path, home: Path) -> str:
    return os.path.relpath(os.path.realpath(path.expanduser()), home)
