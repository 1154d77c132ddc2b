"""Predictions and features of images, by a run or by weights."""

from pathlib import Path

import chex
import cv2
import jax
import numpy as np
import pytest

from flax_resnet import InputError, restore, save_pretrained
from flax_resnet.inference.predictor import Predictor, open_predictor
from flax_resnet.steps.gradient import normalize
from flax_resnet.weights import Preprocessing, published_classes


@pytest.fixture
def predictor(tiny_run: Path) -> Predictor:
    return open_predictor(tiny_run, batch_size=8)


@pytest.mark.parametrize("count", [pytest.param(8, marks=pytest.mark.slow), 1, 19])
def test_probabilities_equal_those_of_the_run_for_any_batch_size(
    tiny_run: Path, predictor: Predictor, count: int
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), np.uint8)
    restored = restore(tiny_run)
    images = normalize(pixels, restored.config.data.mean, restored.config.data.std)
    logits = restored.model.apply(restored.variables, images, train=False)
    found = predictor.probabilities(pixels)
    assert found.shape == (count, 10)
    chex.assert_trees_all_close(found, np.asarray(jax.nn.softmax(logits)), rtol=1e-4, atol=1e-6)


def test_no_images_give_no_probabilities(predictor: Predictor) -> None:
    assert predictor.probabilities(np.zeros((0, 8, 8, 3), np.uint8)).shape == (0, 10)


def test_features_are_a_stages_channels_averaged(tiny_run: Path, predictor: Predictor) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    restored = restore(tiny_run)
    images = normalize(pixels, restored.config.data.mean, restored.config.data.std)
    maps = restored.model.apply(restored.variables, images, train=False, method="features")
    for stage in ("stem", "layer2"):
        found = predictor.features(pixels, stage)
        chex.assert_trees_all_close(
            found, np.asarray(maps[stage].mean((1, 2))), rtol=1e-4, atol=1e-6
        )
    chex.assert_trees_all_equal(predictor.features(pixels), found)  # the last one
    with pytest.raises(InputError, match=r"has no stage 'layer9'; expected one of stem, layer1"):
        predictor.features(pixels, "layer9")


def test_outputs_that_are_not_finite_are_an_error(tiny_run: Path) -> None:
    restored = restore(tiny_run)
    large = jax.tree.map(lambda leaf: 1e30 * leaf, restored.variables)
    predictor = Predictor("large", restored.model, large, restored.config.data)
    for apply in (predictor.probabilities, predictor.features):
        with pytest.raises(InputError, match=r"numbers that are not finite.*float32"):
            apply(np.full((1, 8, 8, 3), 255, np.uint8))


def test_images_of_any_size_and_color_are_prepared(predictor: Predictor) -> None:
    grey = np.full((30, 50), 77, np.uint8)
    encoded = cv2.imencode(".png", grey)[1].tobytes()
    assert predictor.prepare(encoded).tolist() == np.full((8, 8, 3), 77).tolist()
    assert predictor.prepare(grey[..., None]).shape == (8, 8, 3)


def test_weights_bring_their_preprocessing_and_classes_without_names(
    tiny_run: Path, tmp_path: Path
) -> None:
    restored = restore(tiny_run)
    images = Preprocessing(12, 1.0, "bicubic", (0.4,) * 3, (0.2,) * 3)
    save_pretrained(
        restored.model,
        restored.variables,
        tmp_path / "saved",
        architecture="tiny",
        preprocessing=images,
    )
    predictor = open_predictor(tmp_path / "saved")
    assert (predictor.data.test_size, predictor.data.interpolation) == (12, "bicubic")
    assert predictor.class_names == tuple("0123456789")


def test_published_weights_have_the_names_of_imagenet() -> None:
    names = published_classes("timm/resnet50.a1_in1k", 1000)
    assert len(names) == 1000
    assert [names[at] for at in (0, 281, 999)] == [
        "tench, Tinca tinca",
        "tabby, tabby cat",
        "toilet tissue, toilet paper, bathroom tissue",
    ]
    assert (
        published_classes("resnet50.a1_in1k", 7) == published_classes("somewhere/else", 1000) == ()
    )
