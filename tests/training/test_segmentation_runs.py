"""A segmentation run: from files to metrics, exact on any number of devices."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import numpy as np
import pytest
from jax.sharding import Mesh

from flax_resnet import evaluate_run, restore, train
from flax_resnet.errors import InputError
from flax_resnet.models.variants import VARIANTS
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.parsing import parse
from flax_resnet.training.runs import Run, replace_data
from tests.data.circles import write_circles

Meshes = Callable[[int], Mesh]
SIZES = ((24, 20), (18, 26))


@pytest.fixture(autouse=True)
def small_unet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the U-Net one level instead of four."""
    monkeypatch.setitem(VARIANTS, "unet", dict(VARIANTS["unet"], depth=1))


@pytest.fixture(scope="module")
def circles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_circles(tmp_path_factory.mktemp("circles"), 9, SIZES)


@pytest.fixture
def config(circles: Path) -> Callable[..., TrainConfig]:
    def make(**changes: Any) -> TrainConfig:
        data = dict(
            source=f"masks:{circles}", train_split="train[:6]", eval_split="train[6:]",
            batch_size=4, eval_batch_size=2, image_size=16, channels=1, mean=(0.3,), std=(0.25,),
            workers=0, masks=dict(
                elastic=1.0, elastic_spacing=8, border_weight=1.0, flip_vertical=True,
            ),
        )  # fmt: skip
        settings: dict[str, Any] = dict(
            task="segmentation",
            steps=12,
            log_every=1,
            eval_every_epochs=4.0,
            dice_weight=0.5,
            model=dict(name="unet", base_width=4),
            schedule=dict(learning_rate=0.2),
        )
        for key, value in changes.items():
            section, _, name = key.partition("__")
            target = data if section == "data" else settings.setdefault(section, {})
            if name:
                target[name] = value
            else:
                settings[key] = value
        return parse(settings | {"data": data})

    return make


def rows(workdir: Path, kind: str) -> list[dict[str, float]]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """Return a function that trains a config once for all tests of this file."""
    runs: dict[str, Run] = {}

    def once(config: TrainConfig, mesh: Mesh) -> Run:
        key = f"{config} {mesh.size}"
        if key not in runs:
            runs[key] = train(config, tmp_path_factory.mktemp("run"), mesh=mesh)
        return runs[key]

    return once


def test_a_run_learns_and_its_best_has_the_best_dice(
    finished: Any, config: Any, devices: Meshes
) -> None:
    run = finished(config(), devices(1))
    evaluations = rows(run.workdir, "eval")
    assert [row["step"] for row in evaluations] == [6, 12]
    assert evaluations[-1]["count"] == 3
    best = restore(run.workdir, mesh=devices(1))
    assert best.metrics["dice"] == max(row["dice"] for row in evaluations)
    assert best.metrics["pixel_error"] < 0.2
    assert {"iou", "loss", "dice/value 10", "iou/value 200"} <= set(best.metrics)
    assert "accuracy" in rows(run.workdir, "train")[0]
    assert evaluate_run(best, mesh=devices(1)) == pytest.approx(best.metrics)
    assert best.config.data.masks.values == (10, 200)  # what the command `segment` writes


@pytest.mark.slow
def test_a_stopped_run_continues_bit_for_bit(
    finished: Any, config: Any, devices: Meshes, tmp_path: Path
) -> None:
    whole = finished(config(), devices(1))
    assert train(config(), tmp_path, stop_after=7, mesh=devices(1)).step == 7
    resumed = train(config(), tmp_path, mesh=devices(1))
    chex.assert_trees_all_equal(resumed.variables, whole.variables)
    for kind in ("train", "eval"):
        ours, theirs = rows(tmp_path, kind), rows(whole.workdir, kind)
        assert [row["loss"] for row in ours] == [row["loss"] for row in theirs]


@pytest.mark.slow
def test_the_loss_curve_does_not_depend_on_the_number_of_devices(
    finished: Any, config: Any, devices: Meshes
) -> None:
    alone, shared = (finished(config(), devices(count)) for count in (1, 2))
    for kind in ("train", "eval"):
        curves = [[row["loss"] for row in rows(run.workdir, kind)] for run in (alone, shared)]
        np.testing.assert_allclose(*curves, rtol=1e-4)


@pytest.mark.slow
def test_evaluation_counts_every_pixel_once_at_any_batch_size(
    finished: Any, config: Any, devices: Meshes
) -> None:
    run = finished(config(), devices(1))
    results = [
        evaluate_run(run, replace_data(run.config.data, eval_batch_size=size), "train[:5]", mesh)
        for size, mesh in [(5, devices(1)), (2, devices(1)), (3, devices(2))]
    ]
    assert results[0]["count"] == 5
    for result in results[1:]:
        assert result == pytest.approx(results[0], rel=1e-5)


def test_fewer_outputs_than_classes_are_refused(
    config: Any, devices: Meshes, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="has 2 classes, the model 1 outputs"):
        train(config(model__num_classes=1), tmp_path, mesh=devices(1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"task": "classification", "dice_weight": 0.0},
            "'classification', which does not fit the data",
        ),
        (
            {"data__source": "synthetic", "data__masks": {}},
            "'segmentation', which does not fit the data .*masks:PATH",
        ),
        ({"model": {"name": "tiny"}}, "one logit for each class and pixel"),
        ({"task": "segmentatoin"}, "config.task is 'segmentatoin'.*'segmentation'"),
        ({"task": "classification"}, "dice_weight is 0.5; expected .* 0 unless config.task"),
        ({"dice_weight": -1.0}, "dice_weight is -1.0"),
    ],
)
def test_settings_that_contradict_the_task_are_refused(
    changes: dict[str, Any], message: str, config: Any, devices: Meshes, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        train(config(**changes), tmp_path, mesh=devices(1))
