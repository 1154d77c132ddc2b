"""Weights for another number of classes, or of input channels, than the model has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from flax_resnet import create_model, load_pretrained, to_torch
from flax_resnet.models import variable_shapes
from flax_resnet.weights import save_pretrained, write_state_dict

SMALL = {"stage_sizes": (1, 1, 1, 1), "widths": (4, 8, 8, 8)}


def random_variables(model: Any, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: rng.uniform(0.5, 1, leaf.shape).astype(np.float32), variable_shapes(model)
    )


def same(first: Any, second: Any) -> bool:
    return jax.tree.structure(first) == jax.tree.structure(second) and jax.tree.all(
        jax.tree.map(lambda a, b: a.dtype == b.dtype and np.array_equal(a, b), first, second)
    )


def without_head(variables: Any) -> Any:
    params = {key: value for key, value in variables["params"].items() if key != "fc"}
    return variables | {"params": params}


@pytest.fixture
def model() -> Any:
    return create_model("resnet18", num_classes=5, image_size=32, **SMALL)


@pytest.fixture
def variables(model: Any) -> Any:
    return random_variables(model)


@pytest.fixture
def file(tmp_path: Path, model: Any, variables: Any) -> Path:
    """Return a file of weights without metadata."""
    write_state_dict(tmp_path / "weights.safetensors", to_torch(model, variables))
    return tmp_path / "weights.safetensors"


def test_another_number_of_classes_initializes_the_head(
    file: Path, variables: Any, init: Any
) -> None:
    with pytest.warns(UserWarning, match=r"are for 5 classes and the model has 7.* at random"):
        model, found = load_pretrained(
            file, model="resnet18", num_classes=7, image_size=32, **SMALL
        )
    assert model.num_classes == 7
    assert same(without_head(found), without_head(variables))
    fresh = init(model, np.zeros((1, 32, 32, 3), np.float32))
    assert same(found["params"]["fc"], jax.device_get(fresh["params"]["fc"]))


def test_a_new_head_depends_on_the_seed(file: Path) -> None:
    heads = []
    for seed in (0, 0, 1):
        with pytest.warns(UserWarning, match="at random"):
            _, found = load_pretrained(file, model="resnet18", num_classes=7, seed=seed, **SMALL)
        heads.append(found["params"]["fc"])
    assert same(heads[0], heads[1])
    assert not np.array_equal(heads[0]["kernel"], heads[2]["kernel"])


def test_the_head_is_dropped_or_kept_without_a_warning(file: Path, variables: Any) -> None:
    model, found = load_pretrained(file, model="resnet18", num_classes=0, **SMALL)
    assert model.num_classes == 0
    assert same(found, without_head(variables))
    assert same(load_pretrained(file, model="resnet18", num_classes=5, **SMALL)[1], variables)


def test_weights_without_a_head_give_a_model_without_one(
    tmp_path: Path, model: Any, variables: Any
) -> None:
    features = model.clone(num_classes=0)
    save_pretrained(features, without_head(variables), tmp_path, architecture="resnet18")
    assert load_pretrained(tmp_path)[0] == features
    with pytest.warns(UserWarning, match="are for 0 classes and the model has 3"):
        model, found = load_pretrained(tmp_path, num_classes=3)
    assert found["params"]["fc"]["kernel"].shape == (8, 3)


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_the_first_convolution_is_adapted_to_the_channels(
    file: Path, variables: Any, channels: int
) -> None:
    model, found = load_pretrained(file, model="resnet18", in_channels=channels, **SMALL)
    assert model.in_channels == channels
    # The output for the same gray image in every channel does not change.
    kernel, given = (v["params"]["conv1"]["kernel"] for v in (found, variables))
    assert kernel.shape == (7, 7, channels, 4)
    if channels in (1, 3, 6):
        np.testing.assert_allclose(kernel.sum(2), given.sum(2), rtol=1e-6)
    if channels > 1:
        expected = given[:, :, (channels - 1) % 3] * 3 / channels
        np.testing.assert_allclose(kernel[:, :, -1], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        pytest.param("resnet18d", SMALL, marks=pytest.mark.slow),
        ("resnetv2_50x1_bit", {"stage_sizes": (1, 1), "widths": (32, 32)}),
        ("densenet121", {"stage_sizes": (2, 2), "growth_rate": 4}),
        pytest.param("cifar_resnet20", {}, marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_head_and_stem_is_adapted(
    tmp_path: Path, name: str, arguments: dict[str, Any]
) -> None:
    model = create_model(name, image_size=32, **arguments)
    variables = random_variables(model)
    save_pretrained(model, variables, tmp_path, architecture=name)
    with pytest.warns(UserWarning, match="at random"):
        adapted, found = load_pretrained(tmp_path, num_classes=3, in_channels=1)
    assert (adapted.num_classes, adapted.in_channels) == (3, 1)
    shapes = jax.tree.map(lambda leaf: leaf.shape, variable_shapes(adapted))
    assert jax.tree.map(np.shape, found) == shapes
    first, last = f"{model.first_conv}.weight", f"{model.head_name}."
    before, after = to_torch(model, variables), to_torch(adapted, found)
    np.testing.assert_allclose(after[first], before[first].sum(1, keepdims=True), rtol=1e-6)
    rest = [key for key in before if key != first and not key.startswith(last)]
    assert all(np.array_equal(before[key], after[key]) for key in rest)
    assert 0 < np.abs(after[f"{last}weight"]).max() < 1
    assert not after[f"{last}bias"].any()


def test_weights_for_gray_images_keep_their_channel(tmp_path: Path) -> None:
    model = create_model("mnist_resnet")
    write_state_dict(tmp_path / "a.safetensors", to_torch(model, random_variables(model)))
    found, _ = load_pretrained(tmp_path / "a.safetensors", model="mnist_resnet")
    assert found.in_channels == 1
    found, variables = load_pretrained(
        tmp_path / "a.safetensors", model="mnist_resnet", in_channels=3
    )
    assert variables["params"]["conv1"]["kernel"].shape == (3, 3, 3, 32)
