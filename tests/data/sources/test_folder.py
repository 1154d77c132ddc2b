"""Images in folders."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
from PIL import Image

from flax_resnet.data import DataConfig, open_source
from flax_resnet.data.sources.open import decoded
from flax_resnet.errors import InputError
from tests.hostile import made

PNG = made.encoded("PNG", Image.new("RGB", (4, 4), (200, 200, 200)))


def opened(path, split="train"):
    return open_source(DataConfig(source=f"folder:{path}"), split)


def values(source) -> list[tuple[int, int]]:
    examples = [source[index] for index in range(len(source))]
    return sorted((int(decoded(e, 1)[0, 0, 0]), e["label"]) for e in examples)


def test_classes_are_the_sorted_folder_names(folder):
    source = opened(folder)
    assert source.class_names == ("ant", "bee", "cat")
    assert values(source) == [(40 * c + i, c) for c in range(3) for i in range(3)]
    assert values(pickle.loads(pickle.dumps(source))) == values(source)


@pytest.mark.parametrize("split", ["validation", "val", "valid"])
@pytest.mark.parametrize("name", ["validation", "val", "valid"])
def test_the_validation_split_has_many_names(folder, split, name):
    (folder / "val").rename(folder / name)
    assert values(opened(folder, split)) == [(40 * c + i, c) for c in range(3) for i in range(2)]


def test_slices_share_nothing_and_mix_the_classes(folder):
    parts = [opened(folder, f"train{part}") for part in ("[:67%]", "[67%:]")]
    assert sorted(values(parts[0]) + values(parts[1])) == values(opened(folder))
    assert len({label for _, label in values(parts[1])}) > 1


def test_sums_of_splits(folder):
    both = opened(folder, "train+val")
    assert values(both) == sorted(values(opened(folder)) + values(opened(folder, "val")))


def test_class_folders_alone_are_the_train_split(folder):
    assert values(opened(folder / "train")) == values(opened(folder))
    assert len(opened(folder / "train", "train[:5]")) == 5
    with pytest.raises(InputError, match="no split 'validation'; expected one of train"):
        opened(folder / "train", "validation")


def test_an_example_is_described_by_its_file(folder):
    source = opened(folder)
    described = {source.describe(index).partition(" (")[0] for index in range(len(source))}
    assert str(folder / "train" / "bee" / "1.PNG") in described


LITTER = (
    "._0.png", ".ipynb_checkpoints/0.png", ".hidden/0.png", "__MACOSX/0.png", "Thumbs.db",
    ".DS_Store", "desktop.ini",
)  # fmt: skip


def put(*paths: Path) -> None:
    """Write an image to each path."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)


def test_litter_of_systems_is_no_image_and_no_class(folder):
    put(*(folder / place / name for name in LITTER for place in ("", "train", "train/ant")))
    assert opened(folder).class_names == ("ant", "bee", "cat")
    assert len(opened(folder)) == 9


def test_images_below_a_class_belong_to_it(folder):
    put(folder / "train" / "bee" / "monday" / "a" / "7.png", folder / "train" / "bee" / "8.png")
    source = opened(folder)
    assert values(source).count((200, 1)) == 2 and len(source) == 11
    described = [source.describe(index) for index in range(len(source))]
    assert any("train/bee/monday/a/7.png" in text for text in described)


def test_every_suffix_of_an_image_is_one(folder):
    names = ("a.jfif", "b.jpe", "c.TIF", "d.tiff", "e.avif", "f.ppm", "g.jp2", "h.JPEG", "i.dib")
    put(*(folder / "train" / "ant" / name for name in names))
    assert len(opened(folder)) == 9 + len(names)


def test_links_that_lead_back_end(folder):
    ant, bee = folder / "train" / "ant", folder / "train" / "bee"
    (ant / "back").symlink_to("..")
    (ant / "other").symlink_to("../bee")
    (bee / "other").symlink_to("../ant")
    assert len(opened(folder)) == 9 + 3 + 3


def test_what_is_passed_over_is_counted_and_told_once(folder):
    ant = folder / "train" / "ant"
    put(ant / "notes.txt", ant / "b" / "more.TXT", ant / "phone.heic", ant / "README")
    put(folder / "train" / "loose.png", folder / "raw" / "a" / "0.png", folder / "none" / "a.txt")
    with pytest.warns(UserWarning) as told:
        assert len(opened(folder)) == 9
        opened(folder, "val")
        opened(folder)
    assert [str(warning.message).partition("passed over: ")[2] for warning in told] == [
        "images in raw, beside train, val (1)",
        ".txt (2), .heic (1), images beside the class folders (1), no suffix (1)",
    ]


def test_runs_among_the_classes_are_none(folder):
    photos = folder / "train"
    for name in ("runs/a/split.csv", "runs/a/split.json", "old/config.json", "old/checkpoints/x"):
        put(photos / name)
    put(photos / "runs" / "a" / "worst" / "0.png", photos / "old" / "0.png")
    assert opened(photos).class_names == ("ant", "bee", "cat")


@pytest.mark.parametrize(("train", "val"), [("Train", "Val"), ("TRAINING", "Validation")])
def test_splits_are_found_in_any_case(folder, train, val):
    expected = [values(opened(folder, split)) for split in ("train", "val")]
    (folder / "train").rename(folder / train)
    (folder / "val").rename(folder / val)
    for names in (("train", "val"), ("Train", "VAL")):
        assert [values(opened(folder, split)) for split in names] == expected


def test_two_folders_for_one_split_are_an_error(folder):
    shutil.copytree(folder / "val", folder / "Valid")
    with pytest.raises(InputError, match="has Valid and val, which are one split"):
        opened(folder)


def test_classes_may_be_called_train_and_test(tmp_path):
    put(*(tmp_path / name / "0.png" for name in ("bus", "test", "train")))
    assert opened(tmp_path).class_names == ("bus", "test", "train")


def test_splits_without_class_folders_are_an_error(tmp_path):
    put(*(tmp_path / name / "0.png" for name in ("test", "train")))
    with pytest.raises(InputError, match=r"has test, train, with images but no class folders"):
        opened(tmp_path)


def test_a_split_without_class_folders_is_an_error_where_it_is_used(folder):
    put(folder / "test" / "0.png")
    assert len(opened(folder)) == 9
    with pytest.raises(InputError, match="test has no images in its class folders, but 1 beside"):
        opened(folder, "test")


@pytest.mark.parametrize("inner", ["images", "a/images"])
@pytest.mark.parametrize("what", ["train", ""])
def test_class_folders_in_a_single_folder_are_named(folder, tmp_path, inner, what):
    target = tmp_path / "outer" / inner
    target.parent.mkdir(parents=True)
    (folder / what).rename(target)
    below = "ant, bee, cat" if what else "train, val"
    with pytest.raises(InputError, match=rf"one folder, with the folders {below} .*pass .*{inner}"):
        opened(tmp_path / "outer")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("Cat", "cat"), "the classes 'Cat' and 'cat', whose names differ only in case"),
        (("cafe\u0301", "caf\xe9"), r"'cafe\\u0301' and 'caf\\xe9', .* only in the Unicode form"),
    ],
)
def test_classes_with_names_that_look_alike_are_an_error(tmp_path, names, message):
    put(*(tmp_path / name / "0.png" for name in names))
    with pytest.raises(InputError, match=message):
        opened(tmp_path)
    put(tmp_path / "split" / "train" / names[0] / "0.png")
    put(tmp_path / "split" / "val" / names[1] / "0.png")
    with pytest.raises(InputError, match=message):
        opened(tmp_path / "split", "val")


def test_a_class_that_train_lacks_is_an_error(folder):
    (folder / "val" / "dog").mkdir()
    with pytest.raises(InputError, match="has the class 'dog', which the train split lacks"):
        opened(folder, "val")


def test_an_empty_class_is_an_error(folder):
    (folder / "train" / "dog").mkdir()
    with pytest.raises(InputError, match="dog has no images"):
        opened(folder)


def test_an_empty_split_is_an_error(folder):
    shutil.rmtree(folder / "val")
    (folder / "val").mkdir()
    with pytest.raises(InputError, match="val has no images in its class folders"):
        opened(folder, "val")


def test_a_validation_split_without_train_is_an_error(folder):
    shutil.rmtree(folder / "train")
    with pytest.raises(InputError, match="has val and no train folder"):
        opened(folder, "val")


def test_a_folder_of_images_without_classes_is_an_error(folder):
    with pytest.raises(InputError, match="has no class folders"):
        opened(folder / "train" / "ant")
