"""Find a user's images, leave out unreadable ones, and split off a validation set."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flax_resnet.data.batches.workers import available_cores
from flax_resnet.data.config import DataConfig
from flax_resnet.data.images.decode import DecodeError, decode_image, read_file
from flax_resnet.data.positions import permutation
from flax_resnet.data.sources.classes import check_distinct
from flax_resnet.data.sources.csv import Row, read_table, table_folder
from flax_resnet.data.sources.folder import LAYOUT, open_folder, split_folders
from flax_resnet.data.sources.listing import open_tree
from flax_resnet.errors import InputError, printable, shortened

# (number checked, total): for a progress bar.
Report = Callable[[int, int], None]


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
    _check_several({row.label for row in rows})
    return sorted(rows)


def leave_out_unreadable(
    rows: list[Row], report: Report = lambda done, total: None
) -> tuple[list[Row], dict[str, str]]:
    """Return the rows whose images can be decoded, and the errors of the others by file.

    Raises:
      InputError: a class has no training image.
    """
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
    good = [row for row in rows if row.file not in reasons]
    lost = {row.label for row in rows} - {row.label for row in good if row.split == "train"}
    if lost:
        label = min(lost)
        bad = [row.file for row in rows if row.label == label and row.file in reasons]
        example = f"; {printable(bad[0])}: {reasons[bad[0]]}" if bad else ""
        raise InputError(
            f"the class {label!r} has no readable image to train with{example}. Repair them, or "
            "remove the class."
        )
    return good, reasons


def hold_out(rows: list[Row], fraction: float, seed: int) -> list[Row]:
    """Move a fraction of every class from train to validation, unless there is a validation split.

    Every class keeps at least one training image; a class of two or more gives up at least one.
    Files that are listed more than once stay, so that none is in both splits.

    Raises:
      InputError: there are fewer than two classes, or nothing can be held out.
    """
    if not 0 < fraction < 1:
        raise InputError(f"the validation fraction is {fraction:g}; expected one between 0 and 1")
    members = defaultdict(list)
    for at, row in enumerate(rows):
        if row.split == "train":
            members[row.label].append(at)
    _check_several(members)
    if any(row.split == "validation" for row in rows):
        return rows
    split, listed = list(rows), Counter(row.file for row in rows)
    for number, label in enumerate(sorted(members)):
        places = members[label]
        free = [at for at in places if listed[rows[at].file] == 1]
        count = min(max(round(fraction * len(places)), 1), len(places) - 1, len(free))
        for turn in permutation(seed, number, len(free))[:count].tolist():
            split[free[turn]] = rows[free[turn]]._replace(split="validation")
    if split == rows:
        raise InputError(
            "no class has a second image, so none can be held out; expected two or more images in "
            "most classes"
        )
    return split


def single_classes(rows: list[Row]) -> list[str]:
    """Return the classes with only one image, which cannot be validated."""
    counts = Counter(row.label for row in rows)
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
    check_distinct({row.label for row in rows}, str(table))
    _check_several({row.label for row in rows if row.split == "train"})
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
