"""Images in folders."""

from __future__ import annotations

import pickle
import shutil

import pytest

from flax_resnet.data import DataConfig, open_source
from flax_resnet.data.sources.open import decoded
from flax_resnet.errors import InputError


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


def test_the_place_of_an_example_is_its_path_in_the_split(folder, monkeypatch):
    for source in (opened(folder), opened(folder / "train")):
        assert "bee/1.PNG" in {source.place(index) for index in range(len(source))}
    monkeypatch.chdir(folder)
    source = opened(".", "train+val")
    assert "train/bee/1.PNG" in {source.place(index) for index in range(len(source))}


def test_other_files_are_ignored(folder):
    (folder / "train" / "README.md").touch()
    (folder / "train" / "ant" / "notes.txt").touch()
    (folder / "train" / "ant" / "._0.png").touch()
    assert len(opened(folder)) == 9


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
