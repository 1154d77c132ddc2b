"""Features: neighbors by cosine, votes and embeddings."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet import InputError, ResNet
from flax_resnet.lab import features
from flax_resnet.lab.cam import head
from flax_resnet.lab.weights import Trained, random_variables

SMALL = dict(widths=(4, 8), stem="cifar", num_classes=10, in_channels=1, image_size=8)


def test_neighbors_have_the_same_direction() -> None:
    known = np.array([[1.0, 0.0], [0.0, 1.0], [5.0, 4.0]])
    asked = np.array([[10.0, 1.0], [0.3, 0.2]])
    assert features.nearest(known, asked, 2).tolist() == [[0, 2], [2, 0]]
    assert features.nearest(known, asked, 9).shape == (2, 3)


def test_a_vote_goes_to_the_most_frequent_label_or_to_the_nearer_one() -> None:
    labels = np.array([[3, 1, 1], [2, 5, 0], [4, 7, 4]])
    assert features.majority(labels).tolist() == [1, 2, 4]


@pytest.mark.parametrize("order", ["post", "pre"])
def test_features_of_every_part_equal_the_networks(order: str, init: Any) -> None:
    model = ResNet((1, 1), order=order, **SMALL)
    images = jax.random.normal(jax.random.key(0), (features._BATCH + 3, 8, 8, 1))
    variables = init(model, images[:1])
    found = features.describe(model, variables, images)
    assert list(found) == ["pixels", "stem", "layer1", "pooled", "logits"]
    apply = jax.jit(model.apply, static_argnames="method")
    maps = apply(variables, images, method="features")
    close = dict(rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["layer1"], maps["layer1"].mean((1, 2)), **close)
    np.testing.assert_allclose(found["logits"], apply(variables, images), **close)
    matrix = head(model, variables)
    scored = found["pooled"] @ matrix["kernel"] + matrix["bias"][None]
    np.testing.assert_allclose(found["logits"], scored, **close)
    np.testing.assert_array_equal(found["pixels"], np.asarray(images).reshape(-1, 64))


@pytest.mark.parametrize("method", features.EMBEDDINGS)
def test_an_embedding_keeps_two_directions_apart(method: str) -> None:
    rng = np.random.default_rng(0)
    points = np.repeat(np.eye(2), 10, axis=0) + rng.normal(0, 0.01, (20, 2))
    lengths = rng.uniform(1, 9, (20, 1))
    places = features.embed((points * lengths).astype(np.float32), method, seed=0)
    assert places.shape == (20, 2)
    first, second = places[:10], places[10:]
    apart = np.linalg.norm(first.mean(0) - second.mean(0))
    assert apart > np.linalg.norm(first - first.mean(0), axis=1).mean()


@pytest.mark.slow
def test_the_experiment_searches_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = features.Settings(
        image_size=8,
        train_split="train[:40]",
        test_split="test[:12]",
        neighbours=3,
        embedding="pca",
        queries=2,
    )
    model = ResNet((1, 1), **SMALL)
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    trained = random_variables(model, jax.random.key(1), images)
    found = Trained(model, trained, settings.data_config(), "tiny")
    monkeypatch.setattr(features, "obtain", lambda settings: found)
    result = features.run(settings)
    assert result.parts == ("pixels", "stem", "layer1", "pooled")
    assert result.count == 40
    assert result.same.shape == result.vote.shape == (2, 4)
    np.testing.assert_array_equal(result.same[0, 0], result.same[1, 0])  # the same pixels
    assert result.embedding.shape == (2, 12, 2)
    assert result.shown.shape == (2, 4, 8, 8, 1)
    assert result.shown_labels[:, 0].tolist() == result.labels[[0, 11]].tolist()
    assert len(features.draw(result).axes) == 4
    assert f"the network's own head: {result.accuracy:.1%}" in features.finding(result)


@pytest.mark.slow
def test_networks_with_other_classes_have_no_accuracy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = features.Settings(
        image_size=8, train_split="train[:9]", test_split="test[:4]", embedding="pca"
    )
    model = ResNet((1,), **SMALL | dict(widths=(4,), num_classes=3))
    variables = random_variables(model, jax.random.key(1), jnp.ones((2, 8, 8, 1)))
    found = Trained(model, variables, settings.data_config(), "tiny")
    monkeypatch.setattr(features, "obtain", lambda settings: found)
    result = features.run(settings)
    assert result.accuracy is None
    assert "head" not in features.finding(result)


@pytest.mark.parametrize("settings", [{"embedding": "umap"}, {"neighbours": 0}, {"limit": 3}])
def test_invalid_settings_are_refused(settings: Any) -> None:
    with pytest.raises(InputError, match=r"embedding|neighbours"):
        features.Settings(**settings)
