"""Find a user's images, leave out unreadable ones, and split off a validation set."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flax_resnet.data.batches.workers import available_cores
from flax_resnet.data.config import DataConfig
from flax_resnet.data.images.decode import DecodeError, decode_image, read_file
from flax_resnet.data.positions import permutation
from flax_resnet.data.sources.classes import check_distinct
from flax_resnet.data.sources.csv import (
    Row,
    classes_of,
    has_several,
    labels_of,
    read_table,
    table_folder,
)
from flax_resnet.data.sources.folder import LAYOUT, open_folder, split_folders
from flax_resnet.data.sources.listing import open_tree
from flax_resnet.errors import InputError, printable, shortened

# (number checked, total): for a progress bar.
Report = Callable[[int, int], None]
_NO_CLASS = ""


def find_labeled_images(
    photos: Path, table: Path | None = None, follow_links: bool = False
) -> list[Row]:
    """Return the images in class folders or in a table, with absolute paths.

    Args:
      photos: PHOTOS/CLASS/*.jpg, or PHOTOS/train/CLASS/*.jpg and so on.
      table: a file for `read_table`; its paths are relative to its own folder or to `photos`.
      follow_links: also take images outside of the folder.

    Raises:
      InputError: there are no images, or one is outside the folder.
    """
    if table is not None:
        return _of_table(table, Path(os.path.realpath(photos.expanduser())), follow_links)
    config = DataConfig(source=f"folder:{photos}", follow_links=follow_links)
    rows = []
    for split in split_folders(open_tree(config, str(photos), LAYOUT), str(photos), LAYOUT):
        source = open_folder(config, str(photos), split)
        root = os.path.realpath(source.root)
        files = (os.fsdecode(bytes(file)) for file in source.files)
        labels = (source.class_names[label] for label in source.labels)
        rows += [
            Row(os.path.join(root, file), label, split)  # noqa: PTH118, fast for a million
            for file, label in zip(files, labels, strict=True)
        ]
    _check_several(classes_of(rows))
    return sorted(rows)


def leave_out_unreadable(
    rows: list[Row], report: Report = lambda done, total: None
) -> tuple[list[Row], dict[str, str]]:
    """Return the rows whose images can be decoded, and the errors of the others by file.

    Raises:
      InputError: a class has no training image.
    """
    reasons = unreadable(rows, report)
    good = [row for row in rows if row.file not in reasons]
    lost = classes_of(rows) - classes_of(row for row in good if row.split == "train")
    if lost:
        label = min(lost)
        bad = [row.file for row in rows if label in labels_of(row) and row.file in reasons]
        example = f"; {printable(bad[0])}: {reasons[bad[0]]}" if bad else ""
        raise InputError(
            f"the class {label!r} has no readable image to train with{example}. Repair them, or "
            "remove the class."
        )
    return good, reasons


def unreadable(rows: list[Row], report: Report = lambda done, total: None) -> dict[str, str]:
    """Return why images cannot be decoded, by file; those that can are left out."""
    reasons: dict[str, str] = {}
    pool = ThreadPoolExecutor(available_cores())
    try:
        found = pool.map(_reason, [row.file for row in rows])
        for done, (row, reason) in enumerate(zip(rows, found, strict=True), 1):
            if reason:
                reasons[row.file] = reason
            report(done, len(rows))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for the remaining images.
    return reasons


def hold_out(rows: list[Row], fraction: float, seed: int) -> list[Row]:
    """Move a fraction of every class from train to validation, unless there is a validation split.

    Every class keeps at least one training image; a class of two or more gives up at least one,
    unless its images are the only ones of other classes. Files that are listed more than once stay,
    so that none is in both splits.

    Raises:
      InputError: there are fewer than two classes, or nothing can be held out.
    """
    if not 0 < fraction < 1:
        raise InputError(f"the validation fraction is {fraction:g}; expected one between 0 and 1")
    if not has_several(rows):
        _check_several(classes_of(row for row in rows if row.split == "train"))
    if any(row.split == "validation" for row in rows):
        return rows
    held = _held_of_several if has_several(rows) else _held_of_each
    split = list(rows)
    for at in held(rows, fraction, seed):
        split[at] = rows[at]._replace(split="validation")
    if split == rows:
        raise InputError(
            "no class has a second image, so none can be held out; expected two or more images in "
            "most classes"
        )
    return split


def _held_of_each(rows: list[Row], fraction: float, seed: int) -> Iterator[int]:
    """Yield the rows to hold out where an image has one class."""
    members, listed = _members(rows), Counter(row.file for row in rows)
    for number, label in enumerate(sorted(members)):
        places = members[label]
        free = [at for at in places if listed[rows[at].file] == 1]
        count = min(max(round(fraction * len(places)), 1), len(places) - 1, len(free))
        yield from (free[turn] for turn in permutation(seed, number, len(free))[:count].tolist())


def _held_of_several(rows: list[Row], fraction: float, seed: int) -> Iterator[int]:
    """Yield the rows to hold out where an image can have several classes, or none.

    Each class gives up its share in turn, the rarest first, as in iterative stratification
    (Sechidis et al., 2011): frequent classes fill up what is missing. Images without a class count
    as one more.
    """
    members, listed = _members(rows), Counter(row.file for row in rows)
    left = {label: len(places) for label, places in members.items()}
    held: set[int] = set()
    for number, label in enumerate(sorted(members, key=lambda label: (left[label], label))):
        places = members[label]
        wanted = max(round(fraction * len(places)), 1) - sum(at in held for at in places)
        for turn in permutation(seed, number, len(places)).tolist():
            at = places[turn]
            own = labels_of(rows[at]) or (_NO_CLASS,)
            last = any(left[each] == 1 for each in own)
            if wanted > 0 and at not in held and not last and listed[rows[at].file] == 1:
                wanted -= 1
                held.add(at)
                for each in own:
                    left[each] -= 1
                yield at


def _members(rows: list[Row]) -> dict[str, list[int]]:
    """Return the training rows of each class."""
    members = defaultdict(list)
    for at, row in enumerate(rows):
        if row.split == "train":
            for label in labels_of(row) or (_NO_CLASS,):
                members[label].append(at)
    return members


def single_classes(rows: list[Row]) -> list[str]:
    """Return the classes with only one image, which cannot be validated."""
    counts = Counter(label for row in rows for label in labels_of(row))
    return sorted(label for label, count in counts.items() if count == 1)


def _of_table(table: Path, photos: Path, follow_links: bool) -> list[Row]:
    roots = (table_folder(table), photos)

    def absolute(file: str) -> str:
        paths = [os.path.realpath(root / file) for root in roots]
        path = next((path for path in paths if os.path.exists(path)), paths[-1])  # noqa: PTH110, raises nothing
        if not follow_links and not any(Path(path).is_relative_to(root) for root in roots):
            raise InputError(
                f"{printable(table)} lists {printable(file)}, which is neither in "
                f"{printable(roots[0])} nor in {printable(photos)}. Pass the folder with all "
                "of the images, or --follow-links."
            )
        return path

    rows = [row._replace(file=absolute(row.file)) for row in read_table(table)]
    check_distinct(classes_of(rows), str(table))
    if not has_several(rows):
        _check_several(classes_of(row for row in rows if row.split == "train"))
    return list(dict.fromkeys(rows))


def _check_several(classes: Collection[str]) -> None:
    if len(classes) < 2:
        raise InputError(
            f"the images have {len(classes)} class ({shortened(classes)}); expected two or more, "
            "each in its own folder; images of something else can be a class"
        )


def _reason(file: str) -> str:
    """Return why an image cannot be read, or ""."""
    try:
        decode_image(read_file(Path(file)), 3)
    except (OSError, DecodeError) as error:
        return printable(str(getattr(error, "strerror", None) or error))
    return ""
