"""What has changed in a user's images since they were split."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from flax_resnet.data.images.decode import DecodeError, read_file
from flax_resnet.data.sources.csv import Row
from flax_resnet.errors import printable
from flax_resnet.finetune.pictures import unreadable

# The most files that are listed of each kind of change.
_LISTED = 5

# Of each file: "its bytes, the time of its last change, a digest of its contents".
Marks = Mapping[str, str]


def mark_files(rows: Sequence[Row]) -> dict[str, str]:
    """Return what `find_changes` compares, by the rows' absolute paths."""
    found = {}
    for row in rows:
        try:
            status = os.stat(row.file)  # noqa: PTH116, fast for a million
            found[row.file] = f"{status.st_size} {status.st_mtime_ns} {_digest(row.file)}"
        except (OSError, DecodeError):  # Deleted since it was listed.
            continue
    return found


def find_changes(before: Sequence[Row], now: Sequence[Row], marks: Marks) -> list[str]:
    """Return a line for each kind of change between a split and the images as they are now.

    Images that are new but cannot be read do not count.

    Args:
      before: the rows of the split, with absolute paths.
      now: those of `find_labeled_images`.
      marks: those of `mark_files` when the split was drawn; empty for splits of earlier versions.
    """
    old, new = ({row.file: row for row in rows} for rows in (before, now))
    added = [row for file, row in new.items() if file not in old]
    bad = unreadable(added)
    has_validation = any(row.split == "validation" for row in now)
    both = [file for file in new if file in old]
    kinds = {
        "new": [row.file for row in added if row.file not in bad],
        "gone": [file for file in old if file not in new],
        "changed": [file for file in both if file in marks and _differs(file, marks[file])],
        "of another class": [file for file in both if old[file].label != new[file].label],
        "of another split": [
            file for file in both if _moved(old[file].split, new[file].split, has_validation)
        ],
    }
    return [_line(kind, files) for kind, files in kinds.items() if files]


def _moved(before: str, now: str, has_validation: bool) -> bool:
    drawn = now == "train" and before == "validation" and not has_validation
    return before != now and not drawn


def _differs(file: str, mark: str) -> bool:
    try:
        status = os.stat(file)  # noqa: PTH116
        # A copy has another time, so only the contents decide.
        same = mark.startswith(f"{status.st_size} {status.st_mtime_ns} ")
        return not same and not mark.endswith(f" {_digest(file)}")
    except (OSError, DecodeError):
        return True


def _digest(file: str) -> str:
    return hashlib.blake2b(read_file(Path(file)), digest_size=8).hexdigest()


def _line(kind: str, files: list[str]) -> str:
    names = ", ".join(printable(file) for file in files[:_LISTED])
    more = f" and {len(files) - _LISTED:,} more" if len(files) > _LISTED else ""
    return f"{len(files):,} {kind}: {names}{more}"
