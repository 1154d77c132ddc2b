"""Images of an experiment's data."""

import numpy as np

from flax_resnet.data import open_source
from flax_resnet.lab.datasets import DATASETS, first_images, open_dataset


def test_first_images_are_those_of_an_evaluation() -> None:
    config = DATASETS["digits"]
    data = open_dataset(config)
    images, labels = first_images(data, 4, "test")
    source = open_source(config, "test")
    assert labels.tolist() == [source[at]["label"] for at in range(4)]
    pixels = np.stack([source[at]["image"] for at in range(4)])
    expected = (pixels / 255 - config.mean) / config.std
    np.testing.assert_allclose(images, expected, rtol=1e-5, atol=1e-5)


def test_no_more_images_are_returned_than_exist() -> None:
    data = open_dataset(DATASETS["digits"])
    assert len(first_images(data, 10_000, "test")[1]) == len(data.test)
