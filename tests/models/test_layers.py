"""Convolution, pooling and the linear layer against loops over taps in numpy."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flax_resnet.models.layers import (
    Conv,
    Linear,
    _convolution,
    _matrix_product,
    conv2d,
    global_average_pool,
    max_pool,
)


def numpy_windows(x: np.ndarray, window: int, stride: int, fill: float) -> np.ndarray:
    """Return the taps of every window, stacked on the first axis, padded on all sides alike."""
    pad = (window - 1) // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=fill)
    height, width = ((size + 2 * pad - window) // stride + 1 for size in (x.shape[1], x.shape[2]))
    rows, columns = stride * (height - 1) + 1, stride * (width - 1) + 1
    return np.stack(
        [
            padded[:, i : i + rows : stride, j : j + columns : stride]
            for i in range(window)
            for j in range(window)
        ]
    )


def numpy_conv(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    taps = numpy_windows(x, len(kernel), stride, 0.0)
    return np.einsum("tnhwc,tco->nhwo", taps, kernel.reshape(-1, *kernel.shape[2:]))


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape)


@settings(max_examples=12)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    window=st.sampled_from([1, 3, 5, 7]),
    stride=st.sampled_from([1, 2, 3]),
)
def test_convolution_equals_a_loop_over_taps(
    size: tuple[int, int], channels: tuple[int, int], window: int, stride: int
) -> None:
    x, kernel = random(2, *size, channels[0]), random(window, window, *channels)
    with jax.enable_x64(True):
        found = conv2d(jnp.asarray(x), jnp.asarray(kernel), stride)
    np.testing.assert_allclose(found, numpy_conv(x, kernel, stride), rtol=1e-12, atol=1e-12)


@settings(max_examples=10)
@given(
    size=st.tuples(st.integers(1, 8), st.integers(1, 8)),
    channels=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    window=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
)
def test_convolution_as_a_matrix_product_equals_xlas_convolution(
    size: tuple[int, int], channels: tuple[int, int], window: int, stride: int
) -> None:
    @jax.jit
    def both(x: jax.Array, kernel: jax.Array) -> Any:
        product, back = jax.vjp(lambda x, k: _matrix_product(x, k, stride), x, kernel)
        direct, back_direct = jax.vjp(lambda x, k: _convolution(x, k, stride), x, kernel)
        return (product, *back(product)), (direct, *back_direct(product))

    with jax.enable_x64(True):
        product, direct = both(random(2, *size, channels[0]), random(window, window, *channels))
    for found, expected in zip(product, direct, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "window", "on_cpu"), [(4, 1, False), (3, 3, False), (4, 3, True), (7, 7, False)]
)
def test_a_cpu_multiplies_where_xlas_convolution_is_slow_and_others_always_convolve(
    size: int, window: int, on_cpu: bool
) -> None:
    x, kernel = jnp.ones((1, size, size, 2)), jnp.ones((window, window, 2, 3))
    for platform, convolves in (("cpu", on_cpu), ("cuda", True), ("tpu", True)):
        text = jax.jit(conv2d).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in text) == convolves, platform


def test_strided_convolution_pads_both_sides_alike() -> None:
    """XLA's `SAME` would pad an even image on the right alone, which published weights forbid."""
    x = jnp.zeros((1, 4, 4, 1)).at[0, 0, 0, 0].set(1)
    kernel = jnp.arange(9.0).reshape(3, 3, 1, 1)
    assert conv2d(x, kernel, 2)[0, 0, 0, 0] == 4  # the centre tap lies on the first pixel


@settings(max_examples=10)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    window=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2, 3]),
)
def test_max_pool_equals_a_loop_that_pads_with_minus_infinity(
    size: tuple[int, int], window: int, stride: int
) -> None:
    x = random(2, *size, 3).astype(np.float32) - 10  # padding with zeros would win every maximum
    expected = numpy_windows(x, window, stride, -np.inf).max(axis=0)
    np.testing.assert_array_equal(max_pool(jnp.asarray(x), window, stride), expected)


def test_convolution_adds_a_bias_only_where_asked() -> None:
    x = jnp.zeros((1, 2, 2, 3))
    variables = {"params": {"kernel": jnp.ones((1, 1, 3, 2)), "bias": jnp.asarray([1.0, 2.0])}}
    assert Conv(2, 1, use_bias=True).apply(variables, x).max() == 2
    assert set(jax.eval_shape(Conv(2, 1).init, jax.random.key(0), x)["params"]) == {"kernel"}


def test_kernels_start_with_the_variance_of_he_et_al(init: Any) -> None:
    kernel = init(Conv(64, 3), jnp.zeros((1, 3, 3, 32)))["params"]["kernel"]
    assert float(kernel.var()) == pytest.approx(2 / (9 * 64), rel=0.05)
    assert float(abs(kernel).max()) > 3 * (2 / (9 * 64)) ** 0.5  # normal, not truncated


def test_linear_layers_start_as_torchs_do(init: Any) -> None:
    params = init(Linear(50), jnp.zeros((1, 400)))["params"]
    assert 0.99 / 20 < float(abs(params["kernel"]).max()) <= 1 / 20
    assert not params["bias"].any()


def test_linear_layer_multiplies_and_adds_in_float32_on_bfloat16_input() -> None:
    x = jnp.asarray(random(2, 300), jnp.bfloat16)
    variables = {"params": {"kernel": jnp.asarray(random(300, 4), "float32"), "bias": jnp.ones(4)}}
    wide = np.asarray(x, np.float64) @ np.asarray(variables["params"]["kernel"], np.float64) + 1
    found = Linear(4).apply(variables, x)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wide, rtol=1e-4, atol=1e-4)


def test_global_average_of_bfloat16_is_summed_in_float32() -> None:
    x = jnp.full((1, 64, 64, 1), 1.0, jnp.bfloat16)
    assert global_average_pool(x).dtype == jnp.float32
    assert global_average_pool(x)[0, 0] == 1  # a bfloat16 sum of ones stalls at 256


def test_layers_equal_torchs() -> None:
    torch = pytest.importorskip("torch")
    x, kernel = random(2, 7, 9, 3), random(5, 3, 3, 3)  # the kernel in torch's order, OIHW
    images = torch.from_numpy(x.transpose(0, 3, 1, 2))
    convolved = torch.nn.functional.conv2d(images, torch.from_numpy(kernel), stride=2, padding=1)
    pooled = torch.nn.functional.max_pool2d(images, 3, 2, 1)
    with jax.enable_x64(True):
        found = conv2d(jnp.asarray(x), jnp.asarray(kernel.transpose(2, 3, 1, 0)), 2)
        np.testing.assert_allclose(found, convolved.permute(0, 2, 3, 1).numpy(), atol=1e-12)
        np.testing.assert_array_equal(max_pool(jnp.asarray(x)), pooled.permute(0, 2, 3, 1).numpy())


@settings(max_examples=10)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    window=st.sampled_from([1, 3, 5]),
    stride=st.sampled_from([1, 2, 3]),
)
def test_the_gradient_of_max_pool_goes_to_the_first_maximum(
    size: tuple[int, int], window: int, stride: int
) -> None:
    x = random(2, *size, 3).round().astype(np.float32)  # whole numbers tie often
    pad = (window - 1) // 2

    def plain(x: jax.Array) -> jax.Array:
        return nn.max_pool(x, (window,) * 2, (stride,) * 2, [(pad, pad)] * 2)

    expected, back = jax.vjp(plain, x)
    found, ours = jax.vjp(lambda x: max_pool(x, window, stride), x)
    weights = random(*expected.shape).astype(np.float32)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(ours(weights)[0], back(weights)[0], rtol=1e-6, atol=1e-6)
