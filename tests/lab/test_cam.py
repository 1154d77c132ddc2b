"""Class activation maps are exact, and Grad-CAM at the last stage is their positive part."""

from pathlib import Path
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet import DenseNet, InputError, ResNet
from flax_resnet.lab import cam
from flax_resnet.lab.weights import Trained
from flax_resnet.models import variable_shapes

SMALL = dict(widths=(4, 8), stem="cifar", num_classes=3, image_size=8)
POST = ResNet((1, 1), **SMALL)
DENSE = DenseNet((1, 1), 4, stem="cifar", num_classes=3, image_size=8)
IMAGES = jnp.asarray(np.random.default_rng(0).standard_normal((5, 8, 8, 3)), jnp.float32)
CLASSES = jnp.array([0, 1, 2, 0, 1])


def variables_of(model: Any) -> Any:
    """Return random variables whose variances are positive."""
    rng = np.random.default_rng(1)

    def draw(path: Any, leaf: Any) -> Any:
        values = rng.normal(0, 0.4, leaf.shape).astype(np.float32)
        return abs(values) + 0.1 if path[-1].key in ("var", "scale") else values

    return jax.tree_util.tree_map_with_path(draw, variable_shapes(model))


@pytest.mark.parametrize(
    "model",
    [
        POST,
        POST.clone(order="act_before_add"),
        POST.clone(order="pre"),
        POST.clone(order="pre", norm="none"),
        POST.clone(order="pre", norm="frn"),
        DENSE,
        DENSE.clone(norm="none"),
    ],
    ids=lambda model: f"{type(model).__name__}-{getattr(model, 'order', '')}-{model.norm}",
)
def test_the_mean_of_a_map_and_the_bias_are_the_logit(model: Any) -> None:
    variables = variables_of(model)
    logits, maps = jax.jit(lambda v: cam.class_maps(model, v, IMAGES))(variables)
    means = np.asarray(maps.mean((1, 2)) + cam.head(model, variables)["bias"][None])
    assert np.asarray(maps).std((1, 2)).min() > 0
    np.testing.assert_allclose(means, logits, rtol=1e-4, atol=1e-4)


def test_grad_cam_at_the_last_stage_is_the_positive_part_of_cam() -> None:
    """There the gradient of a logit is its column of the matrix over the number of positions."""
    variables = variables_of(POST)
    maps = cam.class_maps(POST, variables, IMAGES)[1]
    chosen = np.maximum(np.asarray(maps)[np.arange(5), :, :, CLASSES], 0)
    found = cam.gradient_maps(POST, variables, IMAGES, CLASSES, "layer2")
    np.testing.assert_allclose(found, chosen / 16, rtol=1e-4, atol=1e-6)


def test_networks_without_a_mean_before_the_head_are_refused() -> None:
    for change in ({"pool": "flatten"}, {"num_classes": 0}):
        with pytest.raises(InputError, match="averages its last maps"):
            cam.class_maps(POST.clone(**change), {}, IMAGES)


def test_the_experiment_explains_test_images(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = cam.Settings(image_size=8, test_split="test[:9]", count=3)
    model = POST.clone(in_channels=1, num_classes=10)
    trained = Trained(model, variables_of(model), settings.data_config(), "tiny")
    monkeypatch.setattr(cam, "obtain", lambda settings: trained)
    result = cam.run(settings)
    assert result.error < 1e-4
    assert result.similarity["layer2"] == pytest.approx(1, abs=1e-4)
    assert result.grad_cam["layer1"].shape == (3, 8, 8)
    titles = [axes.get_title() for axes in cam.draw(result).axes[:4]]
    assert titles[1:] == ["CAM", "Grad-CAM, layer1", "Grad-CAM, layer2"]
    assert f"true {result.class_names[result.labels[0]]}" in titles[0]
    assert "tiny on 3 images of digits" in cam.finding(result)


def test_image_files_need_no_labels(tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    cv2.imwrite(str(path), np.full((12, 12), 80, np.uint8))
    settings = cam.Settings(images=(str(path),) * 2, image_size=8)
    config = settings.data_config()
    images, labels, names = cam.chosen_images(settings, Trained(POST, {}, config, "tiny"))
    np.testing.assert_allclose(images, (80 / 255 - config.mean[0]) / config.std[0], rtol=1e-5)
    assert labels.tolist() == [cam.UNKNOWN] * 2
    assert names == ()


def test_data_of_other_classes_is_refused() -> None:
    settings = cam.Settings()
    trained = Trained(POST, {}, settings.data_config(), "tiny")
    with pytest.raises(InputError, match="has 10 classes and tiny has 3"):
        cam.chosen_images(settings, trained)


def test_unknown_parts_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cam, "obtain", lambda settings: Trained(POST, {}, None, "tiny"))
    with pytest.raises(InputError, match="a part is 'layer9'"):
        cam.run(cam.Settings(parts=("layer9",)))
