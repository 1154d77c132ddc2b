"""A data set in memory equals what the loaders return, example by example."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from flax_resnet.data import DataConfig, eval_batches, open_source
from flax_resnet.data.batches.in_memory import load_evaluation, load_training
from flax_resnet.data.batches.loading import TrainLoader
from flax_resnet.data.positions import permutation
from flax_resnet.errors import InputError

PLAIN = DataConfig(
    source="synthetic", image_size=8, crop="none", flip=False, batch_size=30, eval_batch_size=30,
    eval_crop=1.0, workers=0,
)  # fmt: skip


@pytest.mark.parametrize("size", [8, 5])
def test_training_images_are_uncropped_and_in_the_order_of_the_source(size):
    config = dataclasses.replace(PLAIN, image_size=size)
    source = open_source(PLAIN, "train[:100]")
    data = load_training(source, config)
    loader = TrainLoader(source, dataclasses.replace(config, batch_size=100), seed=3)
    order = permutation(3, 0, 100)
    np.testing.assert_array_equal(data.images[order], loader(0)["image"])
    np.testing.assert_array_equal(data.labels[order], loader(0)["label"])
    assert data.images.dtype == np.uint8


def test_evaluation_data_equal_the_batches():
    source = open_source(PLAIN, "validation[:70]")
    data = load_evaluation(source, PLAIN)
    batches = list(eval_batches(source, PLAIN))
    for name, found in (("image", data.images), ("label", data.labels), ("mask", data.mask)):
        np.testing.assert_array_equal(found, np.concatenate([b[name] for b in batches])[:70])


def test_undecodable_images_are_replaced_in_training_and_masked_in_evaluation(folder):
    (folder / "train" / "bee" / "1.PNG").write_bytes(b"")
    (folder / "val" / "cat" / "0.png").write_bytes(b"")
    config = dataclasses.replace(PLAIN, source=f"folder:{folder}", on_error="skip", batch_size=4)
    source = open_source(config, "train")
    (bad,) = (index for index in range(9) if "bee/1.PNG" in source.describe(index))
    train = load_training(source, config)
    assert train.skipped.tolist() == [int(index == bad) for index in range(9)]
    np.testing.assert_array_equal(train.images[bad], train.images[(bad + 1) % 9])
    assert load_evaluation(open_source(config, "val"), config).mask.sum() == 5
    for broken, message in (
        (dict(on_error="raise"), "1.PNG"),
        (dict(max_errors=0), "max_errors = 0"),
    ):
        with pytest.raises(InputError, match=message):
            load_training(open_source(config, "train"), dataclasses.replace(config, **broken))
