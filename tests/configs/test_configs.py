"""Every recipe: it says what it promises, and its parts fit together."""

import dataclasses
import functools
import importlib.util
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from flax_resnet.data.mask_loading import train_loader
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.mesh import data_mesh, device_rows
from flax_resnet.training.parsing import parse
from flax_resnet.training.setup import prepare_run
from flax_resnet.training.state import make_state
from flax_resnet.training.step import make_train_step
from tests.data.circles import write_circles

RECIPES = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))


def load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def on_made_up_data(config: TrainConfig, folder: Path) -> TrainConfig:
    splits = dict(train_split="train", eval_split="validation")
    source = "synthetic:10"
    if config.task == "segmentation":
        source = f"masks:{write_circles(folder, 2)}"
        splits["eval_split"] = "train"
    data = dataclasses.replace(config.data, source=source, **splits)
    return dataclasses.replace(config, data=data)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_command_expectation_and_time(path: Path) -> None:
    text = load(path).__doc__
    assert f"python train.py --config configs/{path.name}" in text
    assert "Expected:" in text
    assert "Time:" in text


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_never_chooses_its_best_on_the_test_split(path: Path) -> None:
    data = parse(load(path).get_config()).data
    assert data.test_split is None or not data.eval_split.startswith(data.test_split)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_makes_a_step_that_types(path: Path, tmp_path: Path) -> None:
    mesh = data_mesh(jax.devices()[:1])
    setup = prepare_run(on_made_up_data(parse(load(path).get_config()), tmp_path), mesh)
    data = setup.config.data
    shape = (data.image_size, data.image_size, data.channels)
    step = make_train_step(
        setup.model,
        setup.optimizer,
        setup.rate,
        mesh,
        mean=data.mean,
        std=data.std,
        loss=setup.loss,
    )
    state = jax.eval_shape(
        functools.partial(make_state, setup.model, setup.optimizer, shape), jax.random.key(0)
    )
    rows = train_loader(setup.train_source, data, 0, 0, 1).empty(data.batch_size)
    batch = jax.eval_shape(device_rows, rows)
    after, metrics = jax.eval_shape(step, state, batch)
    assert jax.tree.map(lambda leaf: leaf.shape, after) == jax.tree.map(lambda s: s.shape, state)
    assert metrics["loss"].dtype == jnp.float32
    assert setup.steps > 0
    assert float(setup.rate(0)) > 0
