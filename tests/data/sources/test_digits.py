"""The embedded digits, as TFDS stores them."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits

from flax_resnet.data import DataConfig, open_source
from flax_resnet.data.sources.open import decoded
from flax_resnet.errors import InputError


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return DataConfig(source="digits", data_dir=str(tmp_path_factory.mktemp("tfds")))


def test_the_splits_are_stratified_and_share_nothing(config, capfd):
    train, test = (open_source(config, split) for split in ("train", "test"))
    assert (len(train), len(test), train.num_classes) == (1437, 360, 10)
    counts = np.bincount([test[i]["label"] for i in range(360)])
    assert counts.min() >= 34 and counts.max() <= 38
    assert capfd.readouterr().out == ""


def test_slices_make_a_validation_split(config):
    parts = [open_source(config, f"train{part}") for part in ("[:90%]", "[90%:]")]
    assert [len(part) for part in parts] == [1293, 144]
    assert parts[1].describe(3) == "record 3 of digits train[90%:]"


def test_the_images_equal_those_of_scikit_learn(config):
    digits = load_digits()
    known = {
        (np.round(image * 255 / 16).astype(np.uint8).tobytes(), int(label))
        for image, label in zip(digits.images, digits.target, strict=True)
    }
    test = open_source(config, "test")
    for index in range(0, 360, 30):
        example = test[index]
        assert (decoded(example, 1).tobytes(), example["label"]) in known


def test_an_unknown_split_lists_the_splits(config):
    with pytest.raises(InputError, match=r"digits has no split 'tst'; expected one of test, "
                                         r"train. Did you mean 'test'"):  # fmt: skip
        open_source(config, "tst")


@pytest.mark.parametrize("split", ["train[", "train[:x%]", "train[:9999]", "train[5:5]"])
def test_an_invalid_slice_is_an_error(config, split):
    with pytest.raises(InputError, match=r"cannot be sliced|has no examples"):
        open_source(config, split)


def test_it_can_be_sent_to_a_worker_process(config):
    source = open_source(config, "test")
    sent = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(sent[7]["image"], source[7]["image"])
