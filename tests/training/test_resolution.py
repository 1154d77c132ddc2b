"""Runs whose images change their size, and evaluation with mirror images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh

from flax_resnet import evaluate_run, restore, train
from flax_resnet.data import train_batches
from flax_resnet.errors import InputError
from flax_resnet.models import create_model
from flax_resnet.steps.gradient import normalize
from flax_resnet.steps.mesh import device_rows, put_batch
from flax_resnet.steps.state import init_state
from flax_resnet.steps.step import StepParts, make_eval_step, make_train_step
from flax_resnet.steps.tasks.table import TASKS
from flax_resnet.training.runs import replace_data
from flax_resnet.training.setup import prepare_run

Meshes = Callable[[int], Mesh]
Configs = Callable[..., Any]
# An epoch has 8 steps.
GROWING = dict(
    steps=8,
    data__train_split="train[:128]",
    data__sizes=[[0.5, 12]],
    data__eval_size=12,
    data__eval_flip=True,
)


@pytest.mark.slow
def test_a_step_is_compiled_once_for_each_size(tiny_config: Configs, devices: Meshes) -> None:
    setup = prepare_run(tiny_config(**GROWING), devices(1))
    config, rate = setup.config, optax.constant_schedule(0.0)
    optimizer = optax.sgd(rate)
    look = dict(mean=config.data.mean, std=config.data.std)
    step = make_train_step(StepParts(setup.model, optimizer, rate, **look), setup.mesh)
    state = init_state(setup.model, optimizer, 0, (8, 8, 1), setup.mesh)
    compiled = []
    for batch in train_batches(setup.train_source, config.data, seed=0, num_batches=8):
        state, _ = step(state, put_batch(device_rows(batch), setup.mesh))
        compiled.append(step._cache_size())
    assert compiled == [1, 1, 1, 1, 2, 2, 2, 2]


@pytest.mark.slow
def test_a_run_with_growing_images_resumes_with_the_next_size(
    tiny_config: Configs, devices: Meshes, tmp_path: Path
) -> None:
    config, mesh = tiny_config(**GROWING), devices(1)
    whole = train(config, tmp_path / "whole", mesh=mesh)
    train(config, tmp_path / "stopped", stop_after=5, mesh=mesh)
    again = train(config, tmp_path / "stopped", mesh=mesh)
    chex.assert_trees_all_equal(again.variables, whole.variables)
    assert again.metrics == whole.metrics
    run = restore(tmp_path / "whole", mesh=mesh)
    assert evaluate_run(run, mesh=mesh) == pytest.approx(whole.metrics)
    for changes in ({"eval_size": 16}, {"eval_flip": False}):
        other = evaluate_run(run, replace_data(run.config.data, **changes), mesh=mesh)
        assert other["loss"] != whole.metrics["loss"]


@pytest.mark.parametrize("change", [{"data__sizes": [[1.0, 12]]}, {"data__eval_size": 12}])
def test_a_network_for_one_size_accepts_no_others(
    tiny_config: Configs, change: dict[str, Any]
) -> None:
    config = tiny_config(model__name="mnist_resnet", **change)
    name = next(iter(change)).removeprefix("data__")
    with pytest.raises(InputError, match=f"config.data.{name}: images are 12x12, .* 8x8"):
        prepare_run(config)


class Sums:
    """A network with logits for images or pixels, which depend on positions."""

    def __init__(self, pixels: bool) -> None:
        self.pixels = pixels

    def apply(self, variables: Any, images: jax.Array, train: bool) -> jax.Array:
        del variables, train
        steps = jnp.arange(images.shape[2], dtype=jnp.float32)[None, None, :, None]
        shifted = images * steps
        maps = jnp.concatenate([images, shifted, shifted * shifted], -1)
        return maps if self.pixels else maps.sum((1, 2))


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_an_image_and_its_mirror_image_are_evaluated_alike(devices: Meshes, task: str) -> None:
    pixels, mesh = task == "segmentation", devices(2)
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (4, 4, 6, 1), np.uint8),
        "label": rng.integers(0, 3, (4, 4, 6) if pixels else 4).astype(np.uint8),
        "mask": np.ones(4, bool),
    }
    mirrored = batch | {"image": batch["image"][:, :, ::-1].copy()}
    if pixels:
        mirrored["label"] = batch["label"][:, :, ::-1].copy()
    model: Any = Sums(pixels)
    look = dict(mean=(0.5,), std=(0.25,), task=TASKS[task])
    step = make_eval_step(model, mesh, flip=True, **look)
    plain = make_eval_step(model, mesh, **look)
    ours, theirs = (step({}, put_batch(rows, mesh)) for rows in (batch, mirrored))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-5)
    assert plain({}, put_batch(batch, mesh))["loss"] != plain({}, put_batch(mirrored, mesh))["loss"]


@pytest.mark.slow
def test_the_logits_of_both_are_averaged(devices: Meshes) -> None:
    model, mesh = create_model("tiny", in_channels=1), devices(1)
    variables = model.init(jax.random.key(0), np.zeros((1, 8, 8, 1), np.float32))
    rng = np.random.default_rng(0)
    rows = {
        "image": rng.integers(0, 256, (8, 8, 8, 1), np.uint8),
        "label": rng.integers(0, 10, 8, np.int32),
        "mask": np.ones(8, bool),
    }
    step = make_eval_step(model, mesh, mean=(0.5,), std=(0.25,), flip=True)
    images = normalize(rows["image"], (0.5,), (0.25,))
    logits = (model.apply(variables, images) + model.apply(variables, images[:, :, ::-1])) / 2
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, rows["label"])
    found = step(variables, put_batch(rows, mesh))
    np.testing.assert_allclose(found["loss"], losses.sum(), rtol=1e-5)
