"""Training on classes of different sizes."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import cv2
import jax
import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from flax_resnet import InputError, train
from flax_resnet.data.sources.labels import labels_of
from flax_resnet.steps.mesh import data_mesh
from flax_resnet.training.setup import Setup, prepare_run

Configs = Callable[..., Any]


@pytest.fixture
def uneven(tmp_path: Path) -> str:
    """Return a source with 12 images of ant, 3 of bee and 1 of cat."""
    for name, count in (("ant", 12), ("bee", 3), ("cat", 1)):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(256, size=(8, 8), dtype=np.uint8)
            cv2.imwrite(str(folder / f"{number}.png"), pixels)
    return f"folder:{tmp_path / 'images'}"


@pytest.fixture
def setup_of(uneven: str, tiny_config: Configs) -> Callable[..., Setup]:
    def make(**changes: Any) -> Setup:
        data = {"data__source": uneven, "data__eval_split": "train", "data__batch_size": 8}
        return prepare_run(tiny_config(**data | changes), data_mesh(jax.devices()[:1]))

    return make


def test_balanced_weights_are_those_of_scikit_learn(setup_of: Callable[..., Setup]) -> None:
    setup = setup_of(class_weights="balanced")
    labels = labels_of(setup.train_source)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(setup.class_weights, expected)
    assert setup_of().class_weights == ()


def test_weights_have_a_mean_of_one_over_the_images_as_sampled(
    setup_of: Callable[..., Setup],
) -> None:
    np.testing.assert_allclose(
        setup_of(class_weights="1,2,6").class_weights, np.array([1, 2, 6]) * 16 / (12 + 6 + 6)
    )
    sampled = setup_of(class_weights="1,2,6", data__sampling="balanced")
    np.testing.assert_allclose(sampled.class_weights, np.array([1, 2, 6]) / 3)


def test_classes_without_images_and_outputs_without_classes_have_the_weight_one(
    setup_of: Callable[..., Setup],
) -> None:
    setup = setup_of(
        class_weights="balanced", data__train_split="train[:13]", model__num_classes=5,
    )  # fmt: skip
    counts = np.bincount(labels_of(setup.train_source), minlength=3)
    assert np.array(setup.class_weights)[[*(counts == 0), True, True]].tolist() == [1.0] * (
        2 + (counts == 0).sum()
    )


def test_the_loss_of_a_run_is_weighted(setup_of: Callable[..., Setup]) -> None:
    logits = jax.random.normal(jax.random.key(0), (16, 3))
    setup = setup_of(class_weights="1,2,6")
    labels = labels_of(setup.train_source).astype(np.int32)
    each = -np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), labels[:, None], 1)[:, 0]
    # The mean of torch's CrossEntropyLoss(weight=...) over all images.
    expected = np.average(each, weights=np.array([1, 2, 6])[labels])
    np.testing.assert_allclose(setup.loss(logits, {"label": labels})[0], expected, rtol=1e-6)


@pytest.mark.parametrize("on_device", [False, True])
def test_balanced_batches_show_all_classes_equally_often(
    setup_of: Callable[..., Setup], on_device: bool
) -> None:
    setup = setup_of(data__sampling="balanced", data__batch_size=8, data__on_device=on_device)
    labels = np.concatenate([batch["label"] for batch in setup.training_batches(0, 6)])
    assert np.bincount(labels).tolist() == [16, 16, 16]


@pytest.mark.slow
def test_a_balanced_run_resumes_exactly(uneven: str, tiny_config: Configs, tmp_path: Path) -> None:
    settings = {"data__source": uneven, "data__eval_split": "train", "data__sampling": "balanced"}
    settings |= {"data__batch_size": 8, "class_weights": "1,2,6", "data__flip": True}
    settings |= {"schedule__name": "constant"}  # so that a longer run has the same beginning
    whole = train(tiny_config(**settings, steps=6), tmp_path / "whole")
    train(tiny_config(**settings, steps=3), tmp_path / "parts")
    parts = train(tiny_config(**settings, steps=6), tmp_path / "parts")
    chex.assert_trees_all_equal(whole.variables, parts.variables)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"class_weights": "1,2"}, "has 2 numbers; expected one for each of the 3 classes .*: ant"),
        ({"class_weights": "1,x,2"}, "is '1,x,2'; expected 'none', 'balanced', or a number"),
        ({"class_weights": "1,-1,2"}, "is '1,-1,2'; expected"),
        ({"class_weights": "1,nan,2"}, "is '1,nan,2'; expected"),
        ({"class_weights": "2,2,2"}, "is '2,2,2'; expected .* not all the same"),
        ({"class_weights": "balanced", "data__sampling": "balanced"}, "are both 'balanced'"),
        ({"data__sampling": "even"}, "is 'even'; expected one of balanced, shuffled"),
        (
            {"class_weights": "0,0,1", "data__train_split": "train[:2]"},
            "every image .* weight 0",
        ),
    ],
)
def test_balance_that_cannot_be_is_refused(
    setup_of: Callable[..., Setup], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        setup_of(**settings)


@pytest.mark.parametrize("name", ["class_weights", "data__sampling"])
def test_balance_of_equal_classes_is_refused(tiny_config: Configs, name: str) -> None:
    config = tiny_config(**{name: "balanced"}, data__train_split="train[:40]")
    shown = re.escape(name.replace("__", "."))
    with pytest.raises(InputError, match=f"config.{shown} is 'balanced', but every class .* 4 im"):
        prepare_run(config, data_mesh(jax.devices()[:1]))
