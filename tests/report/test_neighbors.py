"""The training images that look most alike to a network."""

from pathlib import Path

import numpy as np

from flax_resnet import restore
from flax_resnet.data import open_source
from flax_resnet.inference.predictor import open_predictor
from flax_resnet.report.neighbors import nearest_images


def test_a_training_image_is_its_own_nearest_neighbor(tiny_run: Path) -> None:
    run = restore(tiny_run)
    train = open_source(run.config.data, run.config.data.train_split)
    prepare = open_predictor(tiny_run).prepare
    asked = [0, 7, len(train) - 1]
    found = nearest_images(run, train, [prepare(train[at]["image"]) for at in asked], most=10**6)
    for at, neighbors in zip(asked, found, strict=True):
        first, *others = neighbors
        assert (first.label, first.where) == (train[at]["label"], train.place(at))
        np.testing.assert_array_equal(first.pixels, prepare(train[at]["image"]))
        assert len(others) == 2


def test_neighbors_come_from_an_even_sample_of_a_large_source(tiny_run: Path) -> None:
    run = restore(tiny_run)
    train = open_source(run.config.data, run.config.data.train_split)
    pixels = open_predictor(tiny_run).prepare(train[0]["image"])
    (found,) = nearest_images(run, train, [pixels], most=2)
    assert {each.where for each in found} == {train.place(0), train.place(len(train) // 2)}


def test_without_mistakes_there_is_nothing_to_look_for(tiny_run: Path) -> None:
    run = restore(tiny_run)
    train = open_source(run.config.data, run.config.data.train_split)
    assert nearest_images(run, train, []) == []
