"""Channel attention: formulas in numpy, and sizes for given numbers of channels."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_resnet.models.layers import (
    ChannelConv,
    EfficientChannelAttention,
    SqueezeExcite,
    make_divisible,
)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def shapes(module: Any, channels: int) -> Any:
    x = jnp.zeros((1, 1, 1, channels))
    return jax.eval_shape(module.init, jax.random.key(0), x)["params"]


@given(
    channels=st.floats(0.1, 5000),
    divisor=st.sampled_from([1, 8, 16, 32]),
    limit=st.sampled_from([0.0, 0.9]),
)
def test_a_rounded_width_is_the_nearest_multiple_that_is_not_too_small(
    channels: float, divisor: int, limit: float
) -> None:
    found = make_divisible(channels, divisor, round_limit=limit)
    assert found % divisor == 0
    assert found >= max(divisor, limit * channels)
    nearest = abs(found - channels) <= divisor / 2
    too_small = found - divisor < limit * channels
    assert nearest or too_small or found == divisor


@given(width=st.integers(1, 400), divisor=st.sampled_from([8, 16]))
def test_a_multiple_stays_as_it_is(width: int, divisor: int) -> None:
    assert make_divisible(width * divisor, divisor) == width * divisor


@given(channels=st.integers(1, 400), least=st.sampled_from([32, 64]))
def test_a_rounded_width_is_never_below_the_least(channels: int, least: int) -> None:
    found = make_divisible(channels, least=least)
    assert found >= least
    assert found == max(least, make_divisible(channels))


@pytest.mark.parametrize(
    ("channels", "rounded"), [(4, 8), (11, 8), (12, 16), (35, 32), (36, 40), (50, 48), (8.8, 8)]
)
def test_published_widths(channels: float, rounded: int) -> None:
    assert make_divisible(channels, round_limit=0.0) == rounded


def test_without_a_limit_a_width_can_shrink_by_more_than_a_tenth() -> None:
    assert make_divisible(11, round_limit=0.0) == 8
    assert make_divisible(11) == 16


@pytest.mark.usefixtures("x64")
def test_squeeze_and_excite_scales_channels_by_a_network_of_their_means(random: Any) -> None:
    x = random(3, 4, 5, 16)
    shape = {"fc1": (16, 8), "fc2": (8, 16)}
    kernels = {name: random(*sizes) for name, sizes in shape.items()}
    biases = {name: random(sizes[1]) for name, sizes in shape.items()}
    hidden = np.maximum(x.mean((1, 2)) @ kernels["fc1"] + biases["fc1"][None], 0)
    gate = sigmoid(hidden @ kernels["fc2"] + biases["fc2"][None])
    params = {
        name: {"kernel": jnp.asarray(kernels[name])[None, None], "bias": jnp.asarray(biases[name])}
        for name in shape
    }
    gated = SqueezeExcite(0.5, jnp.float64).apply({"params": params}, jnp.asarray(x))
    np.testing.assert_allclose(gated, x * gate[:, None, None], rtol=1e-12)


@pytest.mark.parametrize(
    ("channels", "ratio", "hidden"),
    [
        (64, 1 / 16, 8),
        (256, 1 / 16, 16),
        (2048, 1 / 16, 128),
        (19, 1 / 16, 8),
        (176, 1 / 16, 8),  # not 11, and not 16, the multiple of 8 above nine tenths of 11
        (818, 1 / 16, 48),
        (256, 1 / 4, 64),
        (2048, 1 / 4, 512),
    ],
)
def test_the_hidden_width_is_a_multiple_of_eight(channels: int, ratio: float, hidden: int) -> None:
    params = shapes(SqueezeExcite(ratio), channels)
    assert params["fc1"]["kernel"].shape == (1, 1, channels, hidden)
    assert params["fc1"]["bias"].shape == (hidden,)
    assert params["fc2"]["kernel"].shape == (1, 1, hidden, channels)
    assert params["fc2"]["bias"].shape == (channels,)


@pytest.mark.parametrize(
    ("channels", "extent"),
    [(2, 3), (16, 3), (64, 3), (127, 3), (128, 5), (256, 5), (512, 5), (1024, 5), (2047, 5),
     (2048, 7), (4096, 7)],
)  # fmt: skip
def test_the_extent_of_attention_grows_with_the_channels(channels: int, extent: int) -> None:
    params = shapes(EfficientChannelAttention(channels), channels)
    assert params["conv"]["kernel"].shape == (extent, 1, 1)


def test_a_pruned_map_keeps_the_extent_of_the_unpruned_one() -> None:
    assert shapes(EfficientChannelAttention(2048), 19)["conv"]["kernel"].shape == (7, 1, 1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("size", [3, 7])
def test_channels_are_correlated_with_one_kernel_over_zeros_at_both_ends(
    size: int, random: Any
) -> None:
    x, kernel = random(2, 9), random(size)
    expected = [np.correlate(np.pad(row, size // 2), kernel, "valid") for row in x]
    variables = {"params": {"kernel": jnp.asarray(kernel)[:, None, None]}}
    found = ChannelConv(size).apply(variables, jnp.asarray(x))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_efficient_attention_scales_channels_by_their_neighbors_means(random: Any) -> None:
    x, kernel = random(2, 4, 5, 16), random(3)
    rows = [np.correlate(np.pad(row, 1), kernel, "valid") for row in x.mean((1, 2))]
    gate = sigmoid(np.array(rows))
    variables = {"params": {"conv": {"kernel": jnp.asarray(kernel)[:, None, None]}}}
    gated = EfficientChannelAttention(16, jnp.float64).apply(variables, jnp.asarray(x))
    np.testing.assert_allclose(gated, x * gate[:, None, None], rtol=1e-12)


@pytest.mark.parametrize("gate", [SqueezeExcite(), EfficientChannelAttention(16)])
def test_a_gate_keeps_bfloat16(gate: Any) -> None:
    gate, x = gate.clone(dtype=jnp.bfloat16), jnp.ones((2, 3, 3, 16), jnp.bfloat16)
    assert jax.eval_shape(gate.init_with_output, jax.random.key(0), x)[0].dtype == jnp.bfloat16


@pytest.mark.usefixtures("x64")
def test_a_convolution_along_channels_equals_torchs(random: Any) -> None:
    torch = pytest.importorskip("torch")
    x, kernel = random(2, 9), random(1, 1, 5)
    expected = torch.nn.functional.conv1d(
        torch.from_numpy(x)[:, None], torch.from_numpy(kernel), padding=2
    )
    variables = {"params": {"kernel": jnp.asarray(kernel.transpose(2, 1, 0))}}
    found = ChannelConv(5).apply(variables, jnp.asarray(x))
    np.testing.assert_allclose(found, expected[:, 0].numpy(), rtol=1e-12, atol=1e-12)
