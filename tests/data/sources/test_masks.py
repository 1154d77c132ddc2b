"""Images with masks in folders: how they are paired, and what the values mean."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_resnet.data import DataConfig, MaskSource, open_source
from flax_resnet.data.sources.masks import natural_key
from flax_resnet.errors import InputError
from flax_resnet.models import IGNORED
from tests.data.circles import INSIDE, OUTSIDE, circle, write_circles


@pytest.fixture
def circles(tmp_path: Path) -> Path:
    return write_circles(tmp_path / "circles", 12)


def opened(path: Path, split: str = "train", **masks) -> MaskSource:
    settings = dict(channels=1, mean=(0.5,), std=(0.5,), masks=masks)
    return open_source(DataConfig(source=f"masks:{path}", **settings), split)


def numbers(source: MaskSource) -> list[int]:
    return [int(pair.image.stem) for pair in source.pairs]


def save(path: Path, *values: int, mode: str | None = None) -> None:
    mask = np.full((24, 24), values[0], np.uint8)
    mask[0, : len(values)] = values
    Image.fromarray(mask).convert(mode or "L").save(path)


def test_images_and_masks_are_paired_by_name_in_natural_order(circles: Path) -> None:
    source = opened(circles)
    assert numbers(source) == list(range(12))
    for index in (2, 10):
        image, mask = circle(index, 24, 24)
        np.testing.assert_array_equal(source[index]["image"][..., 0], image)
        np.testing.assert_array_equal(source[index]["label"], mask == INSIDE)
    assert sorted(["b", "a10", "a9", "10", "9"], key=natural_key) == ["9", "10", "a9", "a10", "b"]


def test_slices_say_which_images_are_held_out(circles: Path) -> None:
    assert numbers(opened(circles, "train[:9]")) == list(range(9))
    assert numbers(opened(circles, "train[9:]")) == [9, 10, 11]
    assert numbers(opened(circles, "train[10:]+train[:1]")) == [10, 11, 0]
    with pytest.raises(InputError, match="has no examples"):
        opened(circles, "train[12:]")


def test_folders_of_splits_are_splits(tmp_path: Path) -> None:
    write_circles(tmp_path / "train", 3)
    write_circles(tmp_path / "val", 2)
    assert numbers(opened(tmp_path)) == [0, 1, 2]
    assert numbers(opened(tmp_path, "val")) == numbers(opened(tmp_path, "validation")) == [0, 1]
    with pytest.raises(InputError, match="no split 'test'; expected one of train, validation"):
        opened(tmp_path, "test")


def test_classes_are_the_sorted_values_of_all_masks(circles: Path) -> None:
    save(circles / "masks" / "11.png", 99, OUTSIDE)
    source = opened(circles, "train[:3]")  # a slice without the value 99
    assert source.values == (OUTSIDE, 99, INSIDE)
    assert source.num_classes == 3
    assert source.class_names == ("value 10", "value 99", "value 200")
    assert set(np.unique(source[0]["label"])) == {0, 2}


def test_values_and_names_can_be_given(circles: Path) -> None:
    source = opened(circles, values=(0, OUTSIDE, INSIDE), class_names=("a", "b", "c"))
    assert source.class_names == ("a", "b", "c")
    assert set(np.unique(source[0]["label"])) == {1, 2}


def test_pixels_of_the_ignored_value_have_no_class(circles: Path) -> None:
    source = opened(circles, ignore_value=OUTSIDE)
    assert source.values == (INSIDE,)
    assert set(np.unique(source[0]["label"])) == {0, IGNORED}


def test_the_classes_of_a_palette_image_are_its_indices(circles: Path) -> None:
    mask = Image.fromarray(np.full((24, 24), OUTSIDE, np.uint8), "P")
    mask.putpalette([7] * 768)
    mask.save(circles / "masks" / "0.png")
    assert not opened(circles)[0]["label"].any()


def test_black_and_white_masks_have_the_values_0_and_255(tmp_path: Path) -> None:
    write_circles(tmp_path, 1)
    save(tmp_path / "masks" / "0.png", 0, 255, mode="1")
    assert opened(tmp_path).values == (0, 255)


def test_a_source_is_pickled_without_its_decoded_images(circles: Path) -> None:
    source = opened(circles)
    before = len(pickle.dumps(source))
    label = source[0]["label"]
    assert source[0]["label"] is label  # decoded once
    copy = pickle.loads(pickle.dumps(source))
    assert len(pickle.dumps(source)) == before
    np.testing.assert_array_equal(copy[0]["label"], label)
    assert str(circles / "images" / "0.png") in copy.describe(0)


def test_the_largest_height_and_width_are_known(tmp_path: Path) -> None:
    write_circles(tmp_path, 2, sizes=((20, 30), (40, 10)))
    assert opened(tmp_path).largest == (40, 30)
    assert opened(tmp_path, "train[:1]").largest == (20, 30)


def spoil_partner(folder: Path) -> None:
    (folder / "masks" / "7.png").unlink()


def spoil_image(folder: Path) -> None:
    (folder / "images" / "7.png").unlink()


def spoil_size(folder: Path) -> None:
    Image.new("L", (24, 25)).save(folder / "images" / "7.png")


def spoil_value(folder: Path) -> None:
    save(folder / "masks" / "7.png", OUTSIDE, 77)


def spoil_mode(folder: Path) -> None:
    Image.new("RGB", (24, 24)).save(folder / "masks" / "7.png")


def spoil_bytes(folder: Path) -> None:
    (folder / "masks" / "7.png").write_bytes(b"no image")


def spoil_format(folder: Path) -> None:
    (folder / "masks" / "7.png").unlink()
    Image.new("L", (24, 24)).save(folder / "masks" / "7.jpg")


def spoil_names(folder: Path) -> None:
    shutil.copy(folder / "images" / "7.png", folder / "images" / "7.PNG")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_partner, r"images/7\.png has no partner; expected .*masks/7\.png"),
        (spoil_image, r"masks/7\.png has no partner; expected .*images/7\.png"),
        (spoil_size, r"images/7\.png has 24 x 25 pixels and .*masks/7\.png 24 x 24"),
        (spoil_value, r"masks/7\.png has pixels of value 77; expected the classes' values 10, 200"),
        (spoil_mode, r"masks/7\.png has pixels of mode RGB; expected 8-bit gray"),
        (spoil_bytes, r"masks/7\.png cannot be decoded"),
        (spoil_format, r"masks/7\.jpg is not one of \.png"),
        (spoil_names, r"7\.PNG and .*7\.png have the same name"),
    ],
)
def test_a_mistake_is_an_error_that_names_the_file(circles: Path, spoil, message: str) -> None:
    spoil(circles)
    with pytest.raises(InputError, match=message):
        opened(circles, values=(OUTSIDE, INSIDE))


@pytest.mark.parametrize(
    ("path", "settings", "message"),
    [
        ("nowhere", {}, "which is not a folder; expected PATH/images"),
        ("circles/images", {}, "does not exist"),
        ("circles", {"class_names": ("a",)}, "class_names has 1 entries and .* 2 classes"),
        ("circles", {"class_weights": (1.0,) * 3}, "class_weights has 3 entries"),
    ],
)
def test_settings_that_do_not_fit_the_folder_are_refused(
    tmp_path: Path, circles: Path, path: str, settings: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        opened(tmp_path / path, **settings)
