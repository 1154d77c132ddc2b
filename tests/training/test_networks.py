"""Weights from runs and files as the start of another run, and as models by themselves."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet import InputError, load_pretrained, restore, save_pretrained, train
from flax_resnet.data import DataConfig
from flax_resnet.data.sources.synthetic import SyntheticSource
from flax_resnet.steps.mesh import data_mesh
from flax_resnet.training.networks import find_network, starting_variables
from flax_resnet.training.setup import prepare_run
from flax_resnet.weights import Preprocessing

Config = Callable[..., Any]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the run that all tests here read."""
    return tmp_path_factory.mktemp("networks")


@pytest.fixture
def run(home: Path, tiny_config: Config) -> Path:
    """Return the run, which the first test trains."""
    if not (home / "run").exists():
        train(tiny_config(steps=4), home / "run", mesh=data_mesh(jax.devices()[:1]))
    return home / "run"


def same(first: Any, second: Any) -> bool:
    return jax.tree.all(jax.tree.map(np.array_equal, first, second))


def test_a_run_loads_as_a_model_with_its_weights(run: Path) -> None:
    model, variables = load_pretrained(run)
    restored = restore(run)
    assert model == restored.model
    assert same(variables, restored.variables)


def test_a_run_loads_for_other_classes_and_channels(run: Path) -> None:
    with pytest.warns(UserWarning, match="for 10 classes and the model has 3"):
        model, variables = load_pretrained(run, num_classes=3, in_channels=3)
    assert (model.num_classes, model.in_channels) == (3, 3)
    assert variables["params"]["fc"]["kernel"].shape == (16, 3)
    given = restore(run).variables["params"]
    kernel = variables["params"]["conv1"]["kernel"]
    np.testing.assert_allclose(kernel.sum(2), given["conv1"]["kernel"][:, :, 0], rtol=1e-6)


def test_a_run_serves_as_a_backbone(run: Path) -> None:
    backbone, variables = load_pretrained(run, num_classes=0)
    whole, given = load_pretrained(run)
    assert "fc" not in variables["params"]
    images = np.ones((2, 8, 8, 1), np.float32)
    maps, expected = (
        network.apply(weights, images, method="features")
        for network, weights in ((backbone, variables), (whole, given))
    )
    assert same(maps, expected)


@pytest.mark.slow
def test_another_optimizer_starts_from_a_run(
    run: Path, tiny_config: Config, tmp_path: Path
) -> None:
    config = tiny_config(steps=1, model__pretrained=str(run), optimizer__name="adamw")
    assert train(config, tmp_path / "adam").step == 1


def test_a_runs_step_is_chosen_by_revision(run: Path) -> None:
    assert same(load_pretrained(run, revision="4")[1], restore(run, 4).variables)
    with pytest.raises(InputError, match="there is no checkpoint '3'"):
        load_pretrained(run, revision="3")


def test_training_starts_from_a_run(run: Path, tiny_config: Config) -> None:
    setup = prepare_run(tiny_config(model__pretrained=str(run)))
    assert same(starting_variables(setup), restore(run).variables)


def test_a_head_that_knows_the_classes_of_the_data_starts_with_their_outputs(
    run: Path, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = prepare_run(tiny_config(model__pretrained=str(run), data__source="synthetic:3"))
    source = dataclasses.replace(setup.train_source, named=True)
    setup = dataclasses.replace(setup, train_source=source)
    names = ("pattern 4", "pattern 0", "pattern 9")
    monkeypatch.setattr(SyntheticSource, "class_names", names)
    head = starting_variables(setup)["params"]["fc"]
    given = restore(run).variables["params"]["fc"]
    np.testing.assert_array_equal(head["kernel"], given["kernel"][:, [4, 0, 9]])
    np.testing.assert_array_equal(head["bias"], given["bias"][jnp.array([4, 0, 9])])


def test_a_saved_head_starts_with_the_outputs_of_the_classes_of_the_data(
    run: Path, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = restore(run)
    save_pretrained(
        given.model,
        given.variables,
        tmp_path,
        architecture="tiny",
        class_names=given.class_names,
    )
    setup = prepare_run(tiny_config(model__pretrained=str(tmp_path), data__source="synthetic:3"))
    source = dataclasses.replace(setup.train_source, named=True)
    setup = dataclasses.replace(setup, train_source=source)
    monkeypatch.setattr(SyntheticSource, "class_names", ("pattern 4", "pattern 0", "pattern 9"))
    head = starting_variables(setup)["params"]["fc"]
    expected = np.asarray(given.variables["params"]["fc"]["kernel"])[:, [4, 0, 9]]
    np.testing.assert_array_equal(head["kernel"], expected)


def test_a_head_for_other_classes_is_not_taken_even_if_there_are_as_many(
    run: Path, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = prepare_run(tiny_config(model__pretrained=str(run)))
    source = dataclasses.replace(setup.train_source, named=True)
    setup = dataclasses.replace(setup, train_source=source)
    given = restore(run)
    names = tuple(f"class {at}" for at in range(10))
    monkeypatch.setattr(SyntheticSource, "class_names", names)
    with pytest.warns(UserWarning, match=r"knows the classes pattern 0.*and not class 0") as told:
        variables = starting_variables(setup)
    assert len(told) == 1
    assert not same(variables["params"]["fc"], given.variables["params"]["fc"])
    assert same(variables["params"]["conv1"], given.variables["params"]["conv1"])


@pytest.mark.slow
def test_training_starts_from_a_saved_folder_and_continues_from_its_own_checkpoints(
    run: Path, tiny_config: Config, tmp_path: Path
) -> None:
    restored = restore(run)
    save_pretrained(restored.model, restored.variables, tmp_path / "saved", architecture="tiny")
    config = tiny_config(steps=4, model__pretrained=str(tmp_path / "saved"))
    mesh = data_mesh(jax.devices()[:1])
    whole = train(config, tmp_path / "whole", mesh=mesh)
    train(config, tmp_path / "parts", mesh=mesh, stop_after=2)
    again = train(config, tmp_path / "parts", mesh=mesh)
    assert same(again.variables, whole.variables)
    fresh = train(tiny_config(steps=4), tmp_path / "fresh", mesh=mesh)
    assert not same(fresh.variables, whole.variables)


def test_weights_of_another_network_are_an_error(run: Path, tiny_config: Config) -> None:
    setup = prepare_run(tiny_config(model__name="resnet18", model__pretrained=str(run)))
    with pytest.raises(InputError, match=r"is for tiny, but config\.model\.name is 'resnet18'"):
        starting_variables(setup)


def test_data_settings_prepare_images_as_the_weights_expect_them(run: Path, tmp_path: Path) -> None:
    published = find_network("resnet50.tv2_in1k")
    settings = published.image_settings()
    assert (settings["image_size"], settings["eval_crop"]) == (224, 0.965)
    assert published.data() == DataConfig(**settings)
    settings = published.image_settings(train_size=True)
    assert (settings["image_size"], settings["eval_crop"]) == (176, 0.875)
    assert settings["interpolation"] == "bilinear"
    restored, images = restore(run), Preprocessing(8, 0.9, "bicubic", (0.25,), (0.5,))
    save_pretrained(
        restored.model, restored.variables, tmp_path, architecture="tiny", preprocessing=images
    )
    assert find_network(tmp_path).image_settings() == dict(
        image_size=8, channels=1, eval_crop=0.9, interpolation="bicubic", mean=(0.25,), std=(0.5,)
    )
