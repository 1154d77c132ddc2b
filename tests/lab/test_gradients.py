"""Gradients by layer and the product of the blocks' derivatives."""

from typing import Any

import jax
import numpy as np
import pytest

from flax_resnet import create_model
from flax_resnet.lab import gradients


def test_layers_are_named_from_the_images_to_the_head(init: Any) -> None:
    model = create_model(
        "cifar_resnet20", stage_sizes=(1, 11), widths=(4, 8), shortcut="projection"
    )
    params = init(model, np.zeros((1, 8, 8, 3), np.float32))["params"]
    names = gradients.kernel_names(params)
    assert names[:3] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert names.index("layer2.2.conv1") < names.index("layer2.10.conv1")  # numbers, not letters
    assert names[-1] == "linear"


@pytest.mark.parametrize("order", [pytest.param("post", marks=pytest.mark.slow), "pre"])
def test_blocks_of_zeros_pass_on_changes_unchanged(order: str, init: Any) -> None:
    arguments = dict(stage_sizes=(1, 3), widths=(4, 8), num_classes=3, image_size=8, order=order)
    # Without rectifiers, the derivative of every block of zeros is 1 + 0.
    model = create_model("cifar_resnet20", **arguments, zero_init_last=True, activation="identity")
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    gain = gradients.gains(model, images, directions=2)(init(model, images))
    np.testing.assert_allclose(gain[1:], 1.0, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("trained")
def test_every_layer_and_block_is_measured(tiny: dict[str, Any]) -> None:
    result = gradients.run(gradients.Settings(**tiny, depth=8, images=8, directions=2))
    assert result.gradient.shape == (2, 1, 2, 8)
    assert result.bare_gradient.shape == (2, 1, 8)
    assert result.gain.shape == (2, 2, 1, 3)
    assert np.all(result.gradient > 0)
    np.testing.assert_allclose(result.gain[..., -1], 1.0, rtol=1e-5)  # after the last block
    assert "plain-8" in gradients.finding(result)
    assert len(gradients.draw(result).axes) == 4


def test_the_span_is_counted_in_decades() -> None:
    assert gradients.decades(np.array([[1e-3, 1.0, 0.1], [1e-1, 1.0, 0.5]])) == pytest.approx(2.0)
