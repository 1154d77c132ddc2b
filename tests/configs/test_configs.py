"""Every recipe: it states what to expect, its parts fit together, and a run succeeds."""

import dataclasses
import functools
import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_resnet import save_pretrained
from flax_resnet.data.batches.mask_loading import train_loader
from flax_resnet.data.config import PRESETS
from flax_resnet.errors import InputError
from flax_resnet.models.variants import VARIANTS, create_model
from flax_resnet.steps.mesh import data_mesh, device_rows
from flax_resnet.steps.state import make_state
from flax_resnet.steps.step import StepParts, make_train_step
from flax_resnet.steps.updates.schedules import make_schedule
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.loop import train
from flax_resnet.training.parsing import parse
from flax_resnet.training.runs import evaluate_run, restore
from flax_resnet.training.setup import prepare_run
from flax_resnet.training.unread import check_unread
from tests.data.circles import write_circles

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(CONFIGS.glob("*.py"))
CIFAR = sorted(CONFIGS.glob("cifar10_*.py"))


def mostly_slow(*quick: str) -> list[Any]:
    """Return all recipes; only the `quick` ones run in every test session."""
    return [
        pytest.param(path, id=path.stem, marks=[] if path.stem in quick else pytest.mark.slow)
        for path in RECIPES
    ]


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
        source = f"masks:{write_circles(folder, 8, ((32, 32),))}"
        splits["eval_split"] = "train"
    data = dataclasses.replace(config.data, source=source, **splits)
    return dataclasses.replace(config, data=data)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_states_command_expectation_and_time(path: Path) -> None:
    text = load(path).__doc__
    assert f"python train.py --config configs/{path.name}" in text
    assert "Expected:" in text
    assert "Time:" in text


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_never_chooses_its_best_checkpoint_on_the_test_split(path: Path) -> None:
    config = parse(load(path).get_config())
    check_unread(config)
    data = config.data
    assert data.test_split is None or not data.eval_split.startswith(data.test_split)


@pytest.mark.parametrize("path", CIFAR, ids=lambda path: path.stem)
def test_a_recipe_for_cifar_10_also_trains_on_cifar_100(path: Path) -> None:
    module = load(path)
    own, other = parse(module.get_config()), parse(module.get_config("cifar100"))
    smaller = parse(module.get_config("cifar100/cifar_resnet20"))
    assert ":cifar100 for CIFAR-100" in module.__doc__
    changes = {key: PRESETS["cifar100"][key] for key in ("source", "mean", "std")}
    assert own.data.source == PRESETS["cifar10"]["source"]
    assert other == dataclasses.replace(own, data=dataclasses.replace(own.data, **changes))
    model = dataclasses.replace(own.model, name="cifar_resnet20")
    assert smaller == dataclasses.replace(other, model=model)


def test_resnet_rs_knows_every_model_of_its_table_and_suggests_similar_ones() -> None:
    get_config = load(CONFIGS / "resnet_rs.py").get_config
    for name in VARIANTS:
        if name.startswith("resnetrs"):
            assert parse(get_config(name)).model.name == name
    with pytest.raises(InputError, match=r"is 'resnetrs151'; .*Did you mean.* 'resnetrs152'"):
        get_config("resnetrs151")


def along_cosine(first: float, last: float, part: float) -> float:
    return last + (first - last) / 2 * (1 + math.cos(math.pi * part))


@pytest.mark.parametrize(
    ("name", "epochs", "peak", "start", "later"),
    [
        # torch's LinearLR, then CosineAnnealingLR over the remaining epochs.
        ("torchvision_v2", 600, 0.5, 0.005, lambda e: along_cosine(0.5, 0, (e - 5) / 595)),
        # The warm-up hides the beginning of timm's cosine.
        ("rsb_a1", 600, 5e-3, 1e-4, lambda e: along_cosine(5e-3, 1e-6, e / 600)),
        ("rsb_a2", 300, 5e-3, 1e-4, lambda e: along_cosine(5e-3, 1e-6, e / 300)),
        ("rsb_a3", 100, 8e-3, 1e-4, lambda e: along_cosine(8e-3, 1e-6, e / 100)),
    ],
)
def test_rates_equal_those_of_the_published_loop(
    name: str, epochs: int, peak: float, start: float, later: Callable[[int], float]
) -> None:
    config = parse(load(CONFIGS / f"{name}.py").get_config())
    rate = make_schedule(config.schedule, epochs * 10, 10.0, config.data.batch_size)
    warm = [start + (peak - start) * epoch / 5 for epoch in range(5)]
    expected = np.repeat(warm + [later(epoch) for epoch in range(5, epochs)], 10)
    np.testing.assert_allclose(rate(np.arange(epochs * 10)), expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("path", mostly_slow("digits", "mnist"))
def test_the_step_of_a_recipe_can_be_traced(path: Path, tmp_path: Path) -> None:
    mesh = data_mesh(jax.devices()[:1])
    setup = prepare_run(on_made_up_data(parse(load(path).get_config()), tmp_path), mesh)
    data = setup.config.data
    shape = (data.image_size, data.image_size, data.channels)
    look = dict(mean=data.mean, std=data.std)
    parts = StepParts(setup.model, setup.optimizer, setup.rate, loss=setup.loss, **look)
    step = make_train_step(parts, mesh)
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


def cut(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a row of the table two stages of one block each, or a U-Net one level.

    Most time is spent tracing the network five times, and compiling the functions that draw and
    digest arrays, once for each shape; equal widths have few shapes.
    """
    network, short = create_model(name), {}
    if hasattr(network, "stage_sizes"):
        short["stage_sizes"] = (1,) * len(network.stage_sizes[:2])
    if hasattr(network, "widths"):
        short["widths"] = (16,) * len(network.widths[:2])
    if hasattr(network, "depth"):
        short["depth"] = 1
    monkeypatch.setitem(VARIANTS, name, VARIANTS[name] | short)


def reduced(config: TrainConfig, folder: Path) -> TrainConfig:
    """Return the recipe for small images and small batches, in two epochs of one step."""
    model, data, batch = config.model, config.data, 2 * config.model.arguments.get("norm_group", 4)
    size = min(data.image_size, 32)
    if model.pretrained is not None:
        start = create_model(model.name, num_classes=10, image_size=size)
        variables = jax.jit(start.init)(jax.random.key(0), jnp.zeros((1, size, size, 3)))
        save_pretrained(start, variables, folder, architecture=model.name)
        model = dataclasses.replace(model, pretrained=str(folder))
    data = dataclasses.replace(
        data,
        train_split=f"train[:{batch}]",
        eval_split=f"{data.eval_split}[:{batch}]",
        test_split=None if data.test_split is None else f"{data.test_split}[:{batch}]",
        batch_size=batch,
        eval_batch_size=batch,
        image_size=size,
        eval_size=None if data.eval_size is None else size + 16,
        sizes=((1.0, size + 32),) if data.sizes else (),
        augment=dataclasses.replace(data.augment, repeats=min(data.augment.repeats, 3)),
        workers=0,
    )
    start = min(config.average.ema_from, 1.0)
    average = dataclasses.replace(config.average, every=1, ema_from=start)
    config = dataclasses.replace(config, model=model, data=data, average=average)
    return dataclasses.replace(config, epochs=2.0, steps=2, log_every=1)


@pytest.mark.parametrize("path", mostly_slow("mnist"))
def test_a_recipe_takes_two_steps_evaluates_saves_and_restores(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = on_made_up_data(parse(load(path).get_config()), tmp_path / "data")
    cut(config.model.name, monkeypatch)
    mesh = data_mesh(jax.devices()[:1])
    run = train(reduced(config, tmp_path / "weights"), tmp_path / "run", mesh=mesh)
    again = restore(tmp_path / "run", "latest", mesh)
    assert run.step == again.step == 2
    figures = evaluate_run(again, split=again.config.data.eval_split, mesh=mesh)
    assert math.isfinite(figures["loss"])
    prefix = "" if again.average is None else f"{again.average}_"
    assert figures["loss"] == pytest.approx(run.metrics[f"{prefix}loss"], rel=1e-5)
