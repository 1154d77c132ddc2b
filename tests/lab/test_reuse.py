"""Feature reuse: kernels split by the layers that they read."""

from typing import Any

import jax
import numpy as np
import pytest

from flax_resnet import DenseNet, InputError
from flax_resnet.lab import reuse
from flax_resnet.models import variable_shapes

SMALL = DenseNet((2, 1), 3, 0, 1.0, stem="cifar", num_classes=4, image_size=8)


def constant_variables() -> dict[str, Any]:
    return jax.tree.map(lambda leaf: np.ones(leaf.shape), variable_shapes(SMALL))


def test_each_source_has_the_mean_of_its_own_channels() -> None:
    variables = constant_variables()
    features = variables["params"]["features"]
    kernel = features["denseblock1"]["denselayer2"]["conv1"]["kernel"]
    assert kernel.shape[2] == 6 + 3  # the stem gives twice the growth rate
    kernel[:, :, :6], kernel[:, :, 6:] = 2.0, -5.0
    features["transition1"]["conv"]["kernel"][0, 0, :, 0] = [7] * 6 + [9] * 3 + [11] * 3
    weights = reuse.source_weights(SMALL, variables)
    assert weights.shape == (2, 3, 3)
    np.testing.assert_array_equal(weights[0, 0], [1, np.nan, np.nan])
    np.testing.assert_array_equal(weights[0, 1], [2, 5, np.nan])
    np.testing.assert_allclose(weights[0, 2], [1 + 6 / 12, 1 + 8 / 12, 1 + 10 / 12])


def test_the_head_reads_the_last_block() -> None:
    variables = constant_variables()
    kernel = variables["params"]["classifier"]["kernel"]
    assert kernel.shape == (6 + 3 + 3 + 3, 4)
    kernel[:12], kernel[12:] = 3.0, 4.0
    weights = reuse.source_weights(SMALL.clone(stage_sizes=(2, 1)), variables)
    # The second block has one layer, so the head takes the place of the reader after it.
    np.testing.assert_array_equal(weights[1, 1], [3, 4, np.nan])
    assert np.isnan(weights[1, 2]).all()


def test_equal_kernels_prefer_no_source() -> None:
    weights = reuse.source_weights(SMALL.clone(stage_sizes=(2, 1)), constant_variables())[None, :1]
    newest, given = reuse.preference(weights)
    assert newest == given == 1


def test_preferences_are_relative_to_the_mean_of_all_sources() -> None:
    nan = np.nan
    weights = np.array([[[[5, nan, nan], [1.0, 3.0, nan], [1, 1, 1]]]])
    newest, given = reuse.preference(weights)
    assert (newest.tolist(), given.tolist()) == ([1.5], [0.5])


def test_the_experiment_reads_three_blocks(tiny: dict[str, Any], trained: bool) -> None:
    result = reuse.run(reuse.Settings(layers=2, growth_rate=4, **tiny))
    assert result.start.shape == result.end.shape == (1, 3, 3, 3)
    np.testing.assert_array_equal(np.isnan(result.end[0, 0]), ~np.tri(3, dtype=bool))
    assert np.array_equal(result.start, result.end, equal_nan=True) != trained
    titles = [axes.get_title() for axes in reuse.draw(result).axes[:3]]
    assert titles == ["dense block 1", "dense block 2", "dense block 3"]
    assert "times as much as their mean source" in reuse.finding(result)


def test_blocks_of_one_layer_are_refused() -> None:
    with pytest.raises(InputError, match="layers is 1"):
        reuse.Settings(layers=1)
