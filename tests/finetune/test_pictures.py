"""A user's images: found, checked and split."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from flax_resnet.data.sources.csv import Row
from flax_resnet.errors import InputError
from flax_resnet.finetune.pictures import (
    find_labeled_images,
    hold_out,
    leave_out_unreadable,
    single_classes,
)


def made(**counts: int) -> list[Row]:
    return [Row(f"{label}{n}.png", label) for label, count in counts.items() for n in range(count)]


def test_folders_are_found_with_their_splits(folder):
    rows = find_labeled_images(folder)
    assert Counter((row.label, row.split) for row in rows) == {
        (label, split): count
        for label in ("ant", "bee", "cat")
        for split, count in (("train", 3), ("validation", 2))
    }
    assert rows == sorted(rows)
    assert all(Path(row.file).is_absolute() and Path(row.file).is_file() for row in rows)
    assert {row.split for row in find_labeled_images(folder / "train")} == {"train"}


def test_paths_in_a_table_are_relative_to_its_folder_or_the_images(folder, tmp_path):
    (tmp_path / "labels").mkdir()
    table = tmp_path / "labels" / "t.csv"
    shutil.copy(folder / "train" / "ant" / "0.png", tmp_path / "labels" / "own.png")
    table.write_text("file,label\nown.png,x\ntrain/bee/0.png,y\ngone.png,y\n")
    files = [row.file for row in find_labeled_images(folder, table)]
    own, bee, gone = (tmp_path / "labels/own.png", folder / "train/bee/0.png", folder / "gone.png")
    assert files == [str(own), str(bee), str(gone)]
    table.write_text("file,label\n/etc/hostname,x\n/etc/hosts,y\n")
    with pytest.raises(InputError, match=r"lists /etc/hostname, which is neither in"):
        find_labeled_images(folder, table)
    outside = find_labeled_images(folder, table, True)
    assert [row.file for row in outside] == ["/etc/hostname", "/etc/hosts"]


def test_one_class_is_an_error_before_images_are_read(folder):
    shutil.rmtree(folder / "val")
    for name in ("bee", "cat"):
        shutil.rmtree(folder / "train" / name)
    with pytest.raises(InputError, match=r"have 1 class \(ant\); expected two or more"):
        find_labeled_images(folder)
    (folder / "t.csv").write_text("file,label\na.png,x\nb.png,x\n")
    with pytest.raises(InputError, match=r"have 1 class \(x\)"):
        find_labeled_images(folder, folder / "t.csv")


def test_a_file_that_is_listed_twice_is_in_one_split(folder):
    (folder / "t.csv").write_text(
        "file,label\n" + "a.png,x\na.png,x\na.png,y\n" + "b.png,x\nc.png,y\nd.png,y\n"
    )
    rows = find_labeled_images(folder, folder / "t.csv")
    assert len(rows) == 5
    split = hold_out(rows, 0.9, seed=0)
    assert {row.split for row in split if Path(row.file).name == "a.png"} == {"train"}
    assert sum(row.split == "validation" for row in split) == 3


def test_unreadable_images_are_left_out_with_a_reason(folder):
    bad = folder / "train" / "bee" / "9.jpg"
    bad.write_bytes(b"hello world")
    rows = [*find_labeled_images(folder), Row(str(folder / "gone.png"), "cat")]
    seen = []
    good, reasons = leave_out_unreadable(rows, lambda *progress: seen.append(progress))
    assert len(good) == len(rows) - 2
    assert seen == [(done, len(rows)) for done in range(1, len(rows) + 1)]
    assert set(reasons) == {str(bad), str(folder / "gone.png")}
    assert "expected a JPEG" in reasons[str(bad)]
    assert "No such file" in reasons[str(folder / "gone.png")]


def test_a_class_without_readable_images_is_an_error(folder):
    for path in (folder / "train" / "bee").iterdir():
        path.write_bytes(b"hello world")
    with pytest.raises(
        InputError, match=r"class 'bee' has no readable image .*0.png: .*expected a J"
    ):
        leave_out_unreadable(find_labeled_images(folder))


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.99])
def test_every_class_is_split_and_keeps_a_training_image(fraction):
    rows = made(ant=100, bee=10, cat=2, dog=1)
    split = hold_out(rows, fraction, seed=0)
    assert [row._replace(split="train") for row in split] == rows
    held = Counter(row.label for row in split if row.split == "validation")
    for label, count in Counter(row.label for row in rows).items():
        assert held[label] == min(max(round(fraction * count), 1), count - 1)


def test_the_seed_decides_which_images_are_held_out(folder):
    rows = made(ant=50, bee=50)
    assert hold_out(rows, 0.2, 1) == hold_out(rows, 0.2, 1)
    assert hold_out(rows, 0.2, 1) != hold_out(rows, 0.2, 2)


def test_an_existing_validation_split_is_kept(folder):
    rows = find_labeled_images(folder)
    assert hold_out(rows, 0.2, 0) == rows


@pytest.mark.parametrize(
    ("rows", "fraction", "message"),
    [
        (made(ant=3), 0.2, r"have 1 class \(ant\); expected two or more"),
        (made(ant=1, bee=1), 0.2, "no class has a second image"),
        (made(ant=3, bee=3), 1.0, "is 1; expected one between 0 and 1"),
    ],
)
def test_images_that_cannot_be_split_are_an_error(rows, fraction, message):
    with pytest.raises(InputError, match=message):
        hold_out(rows, fraction, 0)


def test_classes_with_one_image_are_found():
    assert single_classes(hold_out(made(ant=3, bee=1, cat=1), 0.2, 0)) == ["bee", "cat"]
