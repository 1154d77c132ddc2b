"""Convolutions and linear layers: loops in numpy, both code paths, bias, standardization."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flax_resnet.models.layers import Conv, Linear, conv2d
from flax_resnet.models.layers.convolution import _on_cpu
from flax_resnet.models.layers.cpu_gradients import xla_convolution

convolve = jax.jit(conv2d, static_argnums=(2, 3, 4))


def numpy_conv(
    windows: Any, x: np.ndarray, kernel: np.ndarray, stride: int, dilation: int, groups: int
) -> np.ndarray:
    """Convolve each group of channels by itself, summing over taps."""
    taps = windows(x, len(kernel), stride, 0.0, dilation)
    matrices = kernel.reshape(-1, *kernel.shape[2:])
    return np.concatenate(
        [
            np.einsum("tnhwc,tco->nhwo", part, matrix)
            for part, matrix in zip(
                np.split(taps, groups, -1), np.split(matrices, groups, -1), strict=True
            )
        ],
        axis=-1,
    )


sides = st.tuples(st.integers(1, 9), st.integers(1, 9))
channels = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=8)
@given(
    size=sides,
    channels=channels,
    window=st.sampled_from([1, 3, 5, 7]),
    stride=st.sampled_from([1, 2, 3]),
    dilation=st.sampled_from([1, 2]),
    groups=st.sampled_from([1, 2, 3]),
)
def test_convolution_equals_a_loop_over_taps(
    size: tuple[int, int],
    channels: tuple[int, int],
    window: int,
    stride: int,
    dilation: int,
    groups: int,
    windows: Any,
    random: Any,
) -> None:
    x = random(2, *size, groups * channels[0])
    kernel = random(window, window, channels[0], groups * channels[1])
    expected = numpy_conv(windows, x, kernel, stride, dilation, groups)
    with jax.enable_x64(True):
        found = convolve(x, kernel, stride, dilation, groups)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@settings(max_examples=6)
@given(
    size=sides,
    channels=channels,
    window=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    dilation=st.sampled_from([1, 2]),
    groups=st.sampled_from([1, 2, 3, 4, 6, 8]),
    more=st.sampled_from([0, 1]),
)
def test_cpu_convolutions_and_gradients_equal_those_of_xla(
    size: tuple[int, int],
    channels: tuple[int, int],
    window: int,
    stride: int,
    dilation: int,
    groups: int,
    more: int,
    random: Any,
) -> None:
    pad = dilation * (window - 1) // 2 + more
    options = dict(stride=stride, dilation=dilation, groups=groups, pad=pad)

    @jax.jit
    def both(x: jax.Array, kernel: jax.Array) -> Any:
        ours, back = jax.vjp(lambda x, k: _on_cpu(x, k, **options), x, kernel)
        direct, back_direct = jax.vjp(lambda x, k: xla_convolution(x, k, **options), x, kernel)
        return (ours, *back(ours)), (direct, *back_direct(ours))

    x = random(2, *size, groups * channels[0])
    with jax.enable_x64(True):
        ours, direct = both(x, random(window, window, channels[0], groups * channels[1]))
    for found, expected in zip(ours, direct, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "window", "dilation", "on_cpu"),
    [
        (4, 1, 1, False),
        (3, 3, 1, False),
        (4, 3, 1, True),
        (7, 7, 1, False),
        (5, 3, 2, False),
        (6, 3, 2, True),
    ],
)
def test_cpus_use_matrix_products_for_slow_convolutions_and_others_never_do(
    size: int, window: int, dilation: int, on_cpu: bool
) -> None:
    x, kernel = jnp.ones((1, size, size, 2)), jnp.ones((window, window, 2, 3))
    traced = jax.jit(lambda x, kernel: conv2d(x, kernel, 1, dilation)).trace(x, kernel)
    for platform, convolves in (("cpu", on_cpu), ("cuda", True), ("tpu", True)):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in text) == convolves, platform


def test_cpus_convolve_groups_in_a_few_dense_blocks_and_others_never_do() -> None:
    x, kernel = jnp.ones((1, 8, 8, 64)), jnp.ones((3, 3, 2, 64))
    traced = jax.jit(lambda x, kernel: conv2d(x, kernel, groups=32)).trace(x, kernel)
    for platform, count, groups in (("cpu", 4, 1), ("cuda", 1, 32), ("tpu", 1, 32)):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == count, platform
        assert text.count(f"feature_group_count = {groups} ") == count, platform


@pytest.mark.parametrize(("size", "dilation"), [(3, 1), (4, 1), (9, 1), (9, 2)])
def test_a_convolution_without_padding_leaves_out_the_border(
    size: int, dilation: int, random: Any
) -> None:
    x, kernel = random(1, size, size, 2), random(3, 3, 2, 3)
    padded = conv2d(x, kernel, dilation=dilation)[:, dilation:-dilation, dilation:-dilation]
    np.testing.assert_allclose(conv2d(x, kernel, dilation=dilation, pad=0), padded, rtol=1e-4)


def test_strided_convolution_pads_both_sides_alike() -> None:
    """XLA's `SAME` would pad an even image on the right only, unlike the published networks."""
    x = jnp.zeros((1, 4, 4, 1)).at[0, 0, 0, 0].set(1)
    kernel = jnp.arange(9.0).reshape(3, 3, 1, 1)
    assert conv2d(x, kernel, 2)[0, 0, 0, 0] == 4  # the center tap is on the first pixel


def test_groups_do_not_see_each_others_channels() -> None:
    x = jnp.ones((1, 8, 8, 4)).at[..., 2:].set(100)
    y = conv2d(x, jnp.ones((3, 3, 2, 6)), groups=2)
    assert y[0, 4, 4].tolist() == [18.0] * 3 + [1800.0] * 3


def test_convolution_adds_a_bias_only_where_asked() -> None:
    x = jnp.zeros((1, 2, 2, 3))
    variables = {"params": {"kernel": jnp.ones((1, 1, 3, 2)), "bias": jnp.asarray([1.0, 2.0])}}
    assert Conv(2, 1, use_bias=True).apply(variables, x).max() == 2
    assert set(jax.eval_shape(Conv(2, 1).init, jax.random.key(0), x)["params"]) == {"kernel"}


def test_kernels_of_groups_see_their_share_of_the_channels() -> None:
    shapes = jax.eval_shape(Conv(12, 3, groups=4).init, jax.random.key(0), jnp.zeros((1, 5, 5, 8)))
    assert shapes["params"]["kernel"].shape == (3, 3, 2, 12)


@pytest.mark.usefixtures("x64")
def test_standardized_kernels_have_mean_0_and_variance_1_for_each_output(random: Any) -> None:
    x, kernel = random(2, 6, 6, 4), 3 * random(3, 3, 4, 5) + 7
    centered = kernel - kernel.mean((0, 1, 2))
    expected = centered / np.sqrt(kernel.var((0, 1, 2)) + 1e-8)
    variables = {"params": {"kernel": jnp.asarray(kernel)}}
    found = Conv(5, 3, standardize=1e-8, dtype=jnp.float64).apply(variables, jnp.asarray(x))
    plain = conv2d(jnp.asarray(x), jnp.asarray(expected))
    np.testing.assert_allclose(found, plain, rtol=1e-12, atol=1e-12)


def test_standardization_happens_in_float32_whatever_the_dtype() -> None:
    """A kernel that is nearly constant has no variance left in bfloat16."""
    kernel = 1 + 1e-4 * jnp.arange(9.0).reshape(3, 3, 1, 1)
    x = jnp.ones((1, 5, 5, 1)).at[0, 2, 2, 0].set(9)
    y = Conv(1, 3, standardize=1e-12, dtype=jnp.bfloat16).apply({"params": {"kernel": kernel}}, x)
    assert y.dtype == jnp.bfloat16
    assert float(y[0, 1, 1, 0]) == pytest.approx(8 * 4 / (60 / 9) ** 0.5, rel=0.02)


def test_kernels_start_with_the_variance_of_he_et_al(init: Any) -> None:
    kernel = init(Conv(64, 3), jnp.zeros((1, 3, 3, 32)))["params"]["kernel"]
    assert float(kernel.var()) == pytest.approx(2 / (9 * 64), rel=0.05)
    assert float(abs(kernel).max()) > 3 * (2 / (9 * 64)) ** 0.5  # normal, not truncated


def test_linear_layers_start_as_torchs_do(init: Any) -> None:
    params = init(Linear(50), jnp.zeros((1, 400)))["params"]
    assert 0.99 / 20 < float(abs(params["kernel"]).max()) <= 1 / 20
    assert not params["bias"].any()


def test_linear_layer_multiplies_and_adds_in_float32_on_bfloat16_input(random: Any) -> None:
    x = jnp.asarray(random(2, 300), jnp.bfloat16)
    variables = {"params": {"kernel": jnp.asarray(random(300, 4), "float32"), "bias": jnp.ones(4)}}
    wide = np.asarray(x, np.float64) @ np.asarray(variables["params"]["kernel"], np.float64) + 1
    found = Linear(4).apply(variables, x)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wide, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("stride", "dilation", "groups"), [(2, 1, 1), (1, 2, 1), (2, 2, 3), (1, 1, 3)]
)
def test_convolution_equals_torchs(stride: int, dilation: int, groups: int, random: Any) -> None:
    torch = pytest.importorskip("torch")
    x, kernel = random(2, 9, 12, 6), random(9, 6 // groups, 3, 3)  # the kernel in OIHW
    expected = torch.nn.functional.conv2d(
        torch.from_numpy(x.transpose(0, 3, 1, 2)),
        torch.from_numpy(kernel),
        stride=stride,
        padding=dilation,
        dilation=dilation,
        groups=groups,
    )
    kernel = jnp.asarray(kernel.transpose(2, 3, 1, 0))
    found = conv2d(jnp.asarray(x), kernel, stride, dilation, groups)
    np.testing.assert_allclose(found, expected.permute(0, 2, 3, 1).numpy(), atol=1e-12)
