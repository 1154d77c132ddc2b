"""Grad-CAM at the stages of every family of networks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet import DenseNet, ResNet
from flax_resnet.inference import explain
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


@pytest.mark.parametrize("model", [POST, POST.clone(order="pre"), DENSE])
def test_the_path_of_every_stage_is_the_module_that_outputs_its_maps(model: Any) -> None:
    variables = variables_of(model)
    maps = model.apply(variables, IMAGES, method="features")
    for part in ("layer1", "layer2"):
        path = explain.stage_path(model, part)
        logits, given = explain.with_output(model, variables, IMAGES, path)
        np.testing.assert_array_equal(given, maps[part])
        np.testing.assert_array_equal(logits, model.apply(variables, IMAGES))
        changed, _ = explain.with_output(model, variables, IMAGES, path, 1.0)
        assert abs(changed - logits).min() > 0


def test_grad_cam_weights_channels_by_the_mean_gradient() -> None:
    """The derivative along a constant in one channel is that mean times the number of positions."""
    variables, path = variables_of(POST), ("layer1",)

    def chosen(constants: jax.Array) -> jax.Array:
        shifted = jnp.broadcast_to(constants[:, None, None], (5, 8, 8, 4))
        logits, _ = explain.with_output(POST, variables, IMAGES, path, shifted)
        return jnp.take_along_axis(logits, CLASSES[:, None], axis=1).sum()

    weights = np.asarray(jax.grad(chosen)(jnp.zeros((5, 4)))) / 64
    maps = POST.apply(variables, IMAGES, method="features")["layer1"]
    expected = np.maximum(np.einsum("nc,nhwc->nhw", weights, maps), 0)
    found = explain.gradient_maps(POST, variables, IMAGES, CLASSES, "layer1")
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
