"""Probes of features: neighbors by hand, a linear probe of classes that a line separates."""

from pathlib import Path

import numpy as np
import pytest

from flax_resnet import InputError, restore
from flax_resnet.data import open_source
from flax_resnet.inference.predictor import open_predictor
from flax_resnet.inference.probes import (
    Features,
    held_out_scores,
    knn_scores,
    linear_scores,
    split_features,
)


def features(rows: object, labels: list[int]) -> Features:
    """Return features of images in order."""
    return Features(np.array(rows, np.float32), np.array(labels), np.arange(len(labels)))


def clouds(count: int, seed: int) -> Features:
    """Return images of three classes, each around a point of its own."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return features(4 * np.eye(3, 5)[labels] + rng.standard_normal((count, 5)), labels.tolist())


def test_neighbors_vote_by_the_exponential_of_their_cosine() -> None:
    train = features([[1, 0], [0, 1], [-1, 0]], [0, 1, 2])
    test = features([[3, 4]], [1])  # cosines 0.6 and 0.8
    found = knn_scores(train, test, neighbors=2)
    votes = np.exp(np.array([0.6, 0.8]) / 0.07)
    assert found.predicted.tolist() == [1]
    np.testing.assert_allclose(found.confidence, votes[1] / votes.sum(), rtol=1e-5)


def test_a_linear_probe_separates_clouds_and_so_do_neighbors() -> None:
    train, test = clouds(90, 0), clouds(60, 1)
    linear, strength = linear_scores(train, test)
    assert strength > 0
    for found in (linear, knn_scores(train, test)):
        assert found.right.mean() > 0.9


def test_an_image_is_judged_by_a_probe_that_has_not_seen_it() -> None:
    rng = np.random.default_rng(0)
    noise = features(rng.standard_normal((60, 200)), rng.integers(0, 2, 60).tolist())
    # A probe that had seen them would remember all of them.
    assert held_out_scores(noise, 10.0).right.mean() < 0.75
    some = clouds(90, 0)
    assert held_out_scores(some, 0.1).truth.tolist() == some.labels.tolist()


def test_a_class_without_training_images_is_wrong_and_not_an_error() -> None:
    train, test = clouds(90, 0), clouds(6, 1)
    test.labels[:2] = 7
    for found in (linear_scores(train, test)[0], knn_scores(train, test)):
        assert not found.right[:2].any()
        assert np.isfinite(found.loss).all()


def test_too_few_images_are_an_error() -> None:
    few = clouds(3, 0)
    with pytest.raises(InputError, match=r"--neighbors is 20; expected 1 to 3"):
        knn_scores(few, few)
    with pytest.raises(InputError, match="images of one class"):
        linear_scores(features(np.ones((8, 2)), [1] * 8), few)
    with pytest.raises(InputError, match="found 3 training images; expected at least 5"):
        held_out_scores(few, 1.0)


def test_features_of_a_split_are_those_of_its_images(tiny_run: Path) -> None:
    predictor, data = open_predictor(tiny_run, batch_size=8), restore(tiny_run).config.data
    source = open_source(data, "test[:19]")
    found = split_features(predictor, source, data)
    pixels = np.stack([predictor.prepare(source[at]["image"]) for at in range(19)])
    np.testing.assert_allclose(found.rows, predictor.features(pixels), rtol=1e-4, atol=1e-6)
    assert found.labels.tolist() == [source[at]["label"] for at in range(19)]
    assert found.places.tolist() == list(range(19))
