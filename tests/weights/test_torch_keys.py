"""Conversion of torch state dicts to Flax variables and back."""

from __future__ import annotations

import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.core import freeze
from hypothesis import given, settings
from hypothesis import strategies as st

from flax_resnet import InputError, ResNet, create_model, from_torch, to_torch
from flax_resnet.models import count_parameters, variable_shapes

TINY = ResNet(stage_sizes=(1, 1), widths=(4, 8), num_classes=5)
exhaustive = pytest.mark.exhaustive
GOLDENS = [
    ("resnet18", "torchvision.resnet18"),
    pytest.param("resnet34", "torchvision.resnet34", marks=exhaustive),
    pytest.param("resnet50", "torchvision.resnet50", marks=pytest.mark.slow),
    pytest.param("resnet101", "torchvision.resnet101", marks=exhaustive),
    ("cifar_resnet20", "cifar.resnet20"),
    ("unet", "lesson.unet"),
    pytest.param("cifar_resnet56", "cifar.resnet56", marks=exhaustive),
    pytest.param("cifar_resnet110", "cifar.resnet110", marks=exhaustive),
]


shapes_of = functools.cache(variable_shapes)


def random_variables(model: ResNet, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape).astype(leaf.dtype), shapes_of(model)
    )


def same(first: Any, second: Any) -> bool:
    return jax.tree.all(
        jax.tree.map(lambda a, b: a.dtype == b.dtype and np.array_equal(a, b), first, second)
    )


@pytest.fixture
def state_dict() -> dict[str, np.ndarray]:
    return to_torch(TINY, random_variables(TINY))


@pytest.mark.parametrize(("name", "published"), GOLDENS)
def test_keys_and_shapes_equal_the_published_ones(name: str, published: str, golden: Any) -> None:
    model = create_model(name)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variable_shapes(model))
    found = {key: list(value.shape) for key, value in to_torch(model, zeros).items()}
    assert found == golden(published).facts["state_dict"]


@pytest.mark.parametrize(("name", "published"), GOLDENS)
def test_the_number_of_parameters_equals_the_published_one(
    name: str, published: str, golden: Any
) -> None:
    assert count_parameters(create_model(name)) == golden(published).facts["params"]


@settings(max_examples=8)
@given(
    seed=st.integers(0, 2**32 - 1),
    block=st.sampled_from(["basic", "bottleneck"]),
    shortcut=st.sampled_from(["projection", "zero_pad", "all", "none"]),
    norm=st.sampled_from(["batch", "none"]),
    classes=st.sampled_from([0, 3]),
)
def test_variables_survive_the_round_trip_exactly(
    seed: int, block: str, shortcut: str, norm: str, classes: int
) -> None:
    model = TINY.clone(block=block, shortcut=shortcut, norm=norm, num_classes=classes)
    variables = random_variables(model, seed)
    assert same(from_torch(model, to_torch(model, variables)), variables)


def test_a_state_dict_survives_the_round_trip_exactly(golden: Any) -> None:
    model, state_dict = create_model("cifar_resnet20"), golden("cifar.resnet20").state_dict()
    found = to_torch(model, from_torch(model, state_dict))
    assert found.keys() == state_dict.keys()
    assert same(found, state_dict)


def test_kernels_are_transposed_from_oihw_to_hwio(
    state_dict: dict[str, np.ndarray],
) -> None:
    torch_kernel = state_dict["layer2.0.conv1.weight"]
    kernel = from_torch(TINY, state_dict)["params"]["layer2"]["0"]["conv1"]["kernel"]
    assert (torch_kernel.shape, kernel.shape) == ((8, 4, 3, 3), (3, 3, 4, 8))
    assert kernel[0, 2, 3, 7] == torch_kernel[7, 3, 0, 2]


def test_linear_matrices_are_transposed(state_dict: dict[str, np.ndarray]) -> None:
    kernel = from_torch(TINY, state_dict)["params"]["fc"]["kernel"]
    np.testing.assert_array_equal(kernel, state_dict["fc.weight"].T)


def test_vectors_keep_their_values_and_change_their_names(
    state_dict: dict[str, np.ndarray],
) -> None:
    variables = from_torch(TINY, state_dict)
    for collection, leaf, torch_leaf in (
        ("params", "scale", "weight"),
        ("params", "bias", "bias"),
        ("batch_stats", "mean", "running_mean"),
        ("batch_stats", "var", "running_var"),
    ):
        found = variables[collection]["layer1"]["0"]["bn2"][leaf]
        np.testing.assert_array_equal(found, state_dict[f"layer1.0.bn2.{torch_leaf}"])


def test_arrays_for_torch_are_contiguous(state_dict: dict[str, np.ndarray]) -> None:
    assert all(value.flags.c_contiguous for value in state_dict.values())


def test_counters_are_written_as_int64_zeros(state_dict: dict[str, np.ndarray]) -> None:
    counter = state_dict["bn1.num_batches_tracked"]
    assert (counter.shape, counter.dtype, int(counter)) == ((), np.int64, 0)


def test_counters_can_be_missing_or_have_any_value(state_dict: dict[str, np.ndarray]) -> None:
    expected = from_torch(TINY, state_dict)
    counted = state_dict | {"bn1.num_batches_tracked": np.asarray(1234)}
    uncounted = {k: v for k, v in state_dict.items() if not k.endswith("num_batches_tracked")}
    assert same(from_torch(TINY, counted), expected)
    assert same(from_torch(TINY, uncounted), expected)


def test_every_problem_of_a_state_dict_is_listed_in_one_error(
    state_dict: dict[str, np.ndarray],
) -> None:
    del state_dict["layer1.0.bn1.running_var"], state_dict["fc.bias"]
    state_dict["layer3.0.conv1.weight"] = np.zeros((8, 8, 3, 3))
    state_dict["layer2.0.conv1.weight"] = np.zeros((8, 4, 5, 5))
    state_dict["bn1.weight"] = np.zeros((4, 1))
    state_dict["fc.weight"] = np.zeros(5)
    with pytest.raises(InputError) as caught:
        from_torch(TINY, state_dict)
    assert set(str(caught.value).splitlines()) == {
        "the state dict does not fit the model (6 problems):",
        "  missing: layer1.0.bn1.running_var",
        "  missing: fc.bias",
        "  unexpected: layer3.0.conv1.weight",
        "  shape of layer2.0.conv1.weight: found (8, 4, 5, 5), expected (8, 4, 3, 3)",
        "  shape of bn1.weight: found (4, 1), expected (4,)",
        "  shape of fc.weight: found (5,), expected (5, 8)",
    }


def test_weights_of_another_network_are_an_error_of_a_few_lines(
    state_dict: dict[str, np.ndarray],
) -> None:
    moco = {f"encoder_q.{key}": value for key, value in state_dict.items()}
    with pytest.raises(InputError) as caught:
        from_torch(TINY, moco | {"queue": np.zeros(3)})
    first, *lines = str(caught.value).splitlines()
    assert first.startswith("the state dict does not fit the model (63 problems):")
    assert len(lines) == 3
    assert re.search(r"missing: conv1\.weight; \S+; \S+; and 27 more$", lines[0])
    assert re.search(r"unexpected: encoder_q\.conv1\.weight; \S+; \S+; and 30 more$", lines[1])
    assert "found: 38 under encoder_q, 1 under queue. Name the" in lines[2]
    assert "--key" in lines[2]


@pytest.mark.parametrize("prefix", ["net.", "backbone.", "encoder_q.", "module.model.trunk."])
def test_a_foreign_prefix_is_stripped(prefix: str, state_dict: dict[str, np.ndarray]) -> None:
    wrapped = {prefix + key: value for key, value in state_dict.items()}
    assert same(from_torch(TINY, wrapped), from_torch(TINY, state_dict))


def test_a_kernel_in_the_axes_of_flax_is_an_error(state_dict: dict[str, np.ndarray]) -> None:
    state_dict["conv1.weight"] = state_dict["conv1.weight"].transpose(2, 3, 1, 0)
    with pytest.raises(InputError, match=re.escape("found (7, 7, 3, 4), expected (4, 3, 7, 7)")):
        from_torch(TINY, state_dict)


def test_a_head_for_other_classes_is_initialized_with_a_warning(
    state_dict: dict[str, np.ndarray],
) -> None:
    with pytest.warns(UserWarning, match="for 5 classes and the model has 7"):
        found = from_torch(TINY.clone(num_classes=7), state_dict)
    assert found["params"]["fc"]["kernel"].shape == (8, 7)
    body = {"params": found["params"] | {"fc": None}, "batch_stats": found["batch_stats"]}
    expected = from_torch(TINY, state_dict)
    assert same(body, {**expected, "params": expected["params"] | {"fc": None}})


def test_an_incomplete_head_is_an_error(state_dict: dict[str, np.ndarray]) -> None:
    del state_dict["fc.bias"]
    with pytest.raises(InputError, match=r"missing: fc\.bias"):
        from_torch(TINY.clone(num_classes=7), state_dict)


def test_a_model_without_classes_takes_no_head(state_dict: dict[str, np.ndarray]) -> None:
    assert "fc" not in from_torch(TINY.clone(num_classes=0), state_dict)["params"]


@pytest.mark.parametrize("prefix", ["model.", "module._orig_mod."])
def test_prefixes_of_wrappers_are_recognized(
    prefix: str, state_dict: dict[str, np.ndarray]
) -> None:
    wrapped = {prefix + key: value for key, value in state_dict.items()}
    assert same(from_torch(TINY, wrapped), from_torch(TINY, state_dict))
    assert same(from_torch(TINY, {"state_dict": wrapped}), from_torch(TINY, state_dict))


def test_variables_of_another_model_are_an_error() -> None:
    variables = random_variables(TINY)
    with pytest.raises(InputError, match=r"differ in .*params/layer1/0/conv3/kernel"):
        to_torch(TINY.clone(block="bottleneck"), variables)
    with pytest.raises(InputError, match=r"differ in .*params/fc/kernel"):
        to_torch(TINY.clone(num_classes=7), variables)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_dtypes_are_kept(dtype: str) -> None:
    variables = jax.tree.map(lambda leaf: leaf.astype(jnp.dtype(dtype)), random_variables(TINY))
    state_dict = to_torch(TINY, variables)
    assert state_dict["conv1.weight"].dtype == dtype
    assert same(from_torch(TINY, state_dict), variables)


def test_device_arrays_and_frozen_dicts_are_accepted() -> None:
    variables = random_variables(TINY)
    on_device = freeze(jax.tree.map(jnp.asarray, variables))
    assert same(to_torch(TINY, on_device), to_torch(TINY, variables))


def test_tensors_of_torch_are_accepted(state_dict: dict[str, np.ndarray]) -> None:
    torch = pytest.importorskip("torch")
    tensors = {key: torch.from_numpy(value) for key, value in state_dict.items()}
    assert same(from_torch(TINY, tensors), from_torch(TINY, state_dict))
