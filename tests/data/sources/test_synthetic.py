"""Synthetic images have the right shapes and can be learned."""

from __future__ import annotations

import numpy as np

from flax_resnet.data import DataConfig, open_source

CONFIG = DataConfig(source="synthetic:7", image_size=20, channels=3)


def test_images_have_the_configured_shapes():
    source = open_source(CONFIG, "validation")
    example = source[3]
    assert source.num_classes == len(source.class_names) == 7
    assert example["image"].shape == (20, 20, 3)
    assert example["image"].dtype == np.uint8
    assert {source[i]["label"] for i in range(20)} == set(range(7))


def test_an_example_depends_only_on_its_split_and_index():
    train, same = (open_source(CONFIG, "train") for _ in range(2))
    other = open_source(CONFIG, "test")
    np.testing.assert_array_equal(train[5]["image"], same[5]["image"])
    assert (train[5]["image"] != other[5]["image"]).any()
    rest = open_source(CONFIG, "train[5:]")
    np.testing.assert_array_equal(train[5]["image"], rest[0]["image"])


def test_classes_can_be_distinguished():
    source = open_source(CONFIG, "train")
    labels = np.array([source[i]["label"] for i in range(140)])
    images = np.stack([source[i]["image"] for i in range(140)]).astype(float)
    centres = np.stack([images[:70][labels[:70] == label].mean(0) for label in range(7)])
    distances = np.square(images[70:, None] - centres).sum(axis=(2, 3, 4))
    assert (distances.argmin(1) == labels[70:]).all()


def test_grey():
    config = DataConfig(source="synthetic", image_size=8, channels=1, mean=(0,), std=(1,))
    assert open_source(config, "train")[0]["image"].shape == (8, 8, 1)
