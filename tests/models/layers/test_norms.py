"""Norms without running statistics, compared with their formulas in numpy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet import InputError
from flax_resnet.models.layers import Affine, EvoNormS0, FilterResponseNorm, GroupNorm

KINDS = (GroupNorm, FilterResponseNorm, EvoNormS0)
apply = jax.jit(lambda norm, *arguments: norm.apply(*arguments), static_argnums=0)
ACTIVATING = pytest.mark.parametrize("kind", [FilterResponseNorm, EvoNormS0])


@pytest.fixture
def x(random: Any) -> np.ndarray:
    """Float64 maps whose channels differ in mean and spread."""
    return random(3, 4, 5, 8) * np.arange(1, 9) + np.arange(8)


def parameters(random: Any, *names: str) -> dict[str, Any]:
    """Return parameters of eight channels, all of them different."""
    values = random(4, 8)
    order = ("scale", "bias", "tau", "v")
    return {"params": {name: jnp.asarray(values[order.index(name)]) for name in names}}


def root_mean_square(x: np.ndarray) -> np.ndarray:
    return np.sqrt((x**2).mean((1, 2), keepdims=True) + 1e-5)


def group_deviation(x: np.ndarray, groups: int) -> np.ndarray:
    """Return the standard deviation of the group of each channel."""
    parts = [
        np.broadcast_to(np.sqrt(part.var((1, 2, 3), keepdims=True) + 1e-5), part.shape)
        for part in np.split(x, groups, axis=-1)
    ]
    return np.concatenate(parts, axis=-1)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("groups", [1, 4])
def test_group_norm_has_mean_0_and_variance_1_in_each_group_of_each_image(
    groups: int, x: np.ndarray, random: Any
) -> None:
    means = [part.mean((1, 2, 3), keepdims=True) for part in np.split(x, groups, -1)]
    mean = np.concatenate([np.repeat(mean, 8 // groups, -1) for mean in means], axis=-1)
    variables = parameters(random, "scale", "bias")
    scale, bias = variables["params"]["scale"], variables["params"]["bias"]
    expected = (x - mean) / group_deviation(x, groups) * np.asarray(scale) + np.asarray(bias)
    found = apply(GroupNorm(groups, dtype=jnp.float64), variables, jnp.asarray(x))
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("act", [True, False])
def test_filter_response_norm_divides_by_the_root_mean_square_and_thresholds(
    act: bool, x: np.ndarray, random: Any
) -> None:
    variables = parameters(random, "scale", "bias", *(["tau"] if act else []))
    values = jax.tree.map(np.asarray, variables["params"])
    expected = x / root_mean_square(x) * values["scale"] + values["bias"]
    if act:
        expected = np.maximum(expected, values["tau"])
    found = FilterResponseNorm(dtype=jnp.float64).apply(variables, jnp.asarray(x), act)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("groups", [1, 4])
def test_evonorm_gates_and_divides_by_the_deviation_of_a_group(
    groups: int, x: np.ndarray, random: Any
) -> None:
    variables = parameters(random, "scale", "bias", "v")
    values = jax.tree.map(np.asarray, variables["params"])
    gated = x / (1 + np.exp(-x * values["v"]))
    expected = gated / group_deviation(x, groups) * values["scale"] + values["bias"]
    found = apply(EvoNormS0(groups, dtype=jnp.float64), variables, jnp.asarray(x))
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_evonorm_without_its_activation_only_scales_and_shifts(x: np.ndarray, random: Any) -> None:
    variables = parameters(random, "scale", "bias")
    found = EvoNormS0(4, dtype=jnp.float64).apply(variables, jnp.asarray(x), False)
    affine = Affine(jnp.float64).apply(variables, jnp.asarray(x))
    values = jax.tree.map(np.asarray, variables["params"])
    np.testing.assert_allclose(found, x * values["scale"] + values["bias"], rtol=1e-12)
    np.testing.assert_array_equal(found, affine)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_normalized_independently_of_the_others(
    kind: Any, random: Any, init: Any
) -> None:
    x = jnp.asarray(random(4, 5, 5, 32))
    norm = kind(dtype=jnp.float64)
    variables = init(norm, x)
    together = apply(norm, variables, x)
    for index in range(4):
        alone = apply(norm, variables, x[index : index + 1])
        np.testing.assert_allclose(alone[0], together[index], rtol=1e-12, atol=1e-12)


@ACTIVATING
def test_the_parameter_of_an_activation_exists_only_with_it(kind: Any) -> None:
    x = jnp.ones((1, 2, 2, 32))

    def names(act: bool) -> set[str]:
        return set(
            jax.eval_shape(lambda key: kind().init(key, x, act), jax.random.key(0))["params"]
        )

    extra = {FilterResponseNorm: "tau", EvoNormS0: "v"}[kind]
    assert names(False) == {"scale", "bias"}
    assert names(True) == {"scale", "bias", extra}


def test_a_threshold_starts_as_a_rectifier_and_a_gate_as_silu() -> None:
    x = jnp.asarray(np.linspace(-2, 2, 32)).reshape(1, 4, 8, 1)
    thresholded, gated = (
        jax.jit(norm.init_with_output)(jax.random.key(0), x)[0]
        for norm in (FilterResponseNorm(), EvoNormS0(1))
    )
    assert np.min(thresholded) == 0
    expected = np.asarray(x) / (1 + np.exp(-np.asarray(x))) / np.std(x)
    np.testing.assert_allclose(gated, expected, rtol=1e-4)


@pytest.mark.parametrize("kind", [GroupNorm, EvoNormS0])
def test_channels_that_cannot_be_grouped_are_an_error(kind: Any) -> None:
    with pytest.raises(InputError, match=r"48 channels cannot be split into 32 groups.*multiples"):
        kind().init(jax.random.key(0), jnp.ones((1, 2, 2, 48)))


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_maps_are_normalized_in_float32(kind: Any, random: Any, init: Any) -> None:
    x = jnp.asarray(5 + random(1, 64, 64, 32), jnp.bfloat16)
    norm = kind(dtype=jnp.bfloat16)
    variables = init(norm, x)
    found = apply(norm, variables, x)
    expected = apply(kind(), variables, x.astype(jnp.float32))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=0.01, atol=0.01)


@pytest.mark.usefixtures("x64")
def test_group_norm_equals_torchs(x: np.ndarray, random: Any) -> None:
    torch = pytest.importorskip("torch")
    variables = parameters(random, "scale", "bias")
    weight, bias = (torch.tensor(np.array(variables["params"][name])) for name in ("scale", "bias"))
    images = torch.from_numpy(x.transpose(0, 3, 1, 2))
    expected = torch.nn.functional.group_norm(images, 2, weight, bias).permute(0, 2, 3, 1)
    found = GroupNorm(2, dtype=jnp.float64).apply(variables, jnp.asarray(x))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-11, atol=1e-12)
