"""Labels of all examples, without decoding the images."""

from pathlib import Path

import numpy as np
import pytest

from flax_resnet.data.config import DataConfig
from flax_resnet.data.sources.digits import open_digits
from flax_resnet.data.sources.labels import balanced_members, class_counts, labels_of
from flax_resnet.data.sources.open import open_source
from flax_resnet.errors import InputError


def test_labels_are_those_of_the_examples(folder: Path, tmp_path: Path) -> None:
    for source, split in (
        (f"folder:{folder}", "validation"),
        ("synthetic:7", "train[:20]"),
        ("digits", "train[:20]"),
    ):
        opened = open_source(DataConfig(source=source, data_dir=_data_dir(source, tmp_path)), split)
        expected = [opened[index]["label"] for index in range(len(opened))]
        np.testing.assert_array_equal(labels_of(opened), expected)
        counts = np.bincount(expected, minlength=opened.num_classes)
        np.testing.assert_array_equal(class_counts(opened), counts)


def _data_dir(source: str, folder: Path) -> str | None:
    return str(folder / "tfds") if source == "digits" else None


def test_classes_without_examples_are_left_out_of_balanced_epochs(folder: Path) -> None:
    config = DataConfig(source=f"folder:{folder}", sampling="balanced")
    source = open_source(config, "train[:2]")
    members = balanced_members(source, config)
    assert members is not None
    assert sorted(np.concatenate(members.examples).tolist()) == [0, 1]
    assert balanced_members(source, DataConfig(source=config.source)) is None


def test_a_label_without_a_class_is_an_error(folder: Path) -> None:
    source = open_source(DataConfig(source=f"folder:{folder}"), "train")
    source.labels[3] = 3
    with pytest.raises(InputError, match=r"has label 3; expected 0 .. 2"):
        labels_of(source)


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    config = DataConfig(data_dir=str(tmp_path))
    source = open_digits(config, "", "train[:5]")
    source.records[2] = b"\xff"
    with pytest.raises(InputError, match=r"the label of record 2 of digits .* cannot be read"):
        labels_of(source)
