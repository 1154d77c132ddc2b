"""A run: what it writes, how it continues, what stops it."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chex
import cv2
import numpy as np
import pytest
from jax.sharding import Mesh

from flax_resnet import evaluate_run, restore, train
from flax_resnet.errors import InputError
from flax_resnet.training.runs import Run

Meshes = Callable[[int], Mesh]
Configs = Callable[..., Any]


def rows(workdir: Path, kind: str) -> list[dict[str, float]]:
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that trains a config once for all tests of this file."""
    runs: dict[str, Run] = {}

    def once(config: Any, mesh: Mesh) -> Run:
        key = f"{config} {mesh.size}"
        if key not in runs:
            runs[key] = train(config, tmp_path_factory.mktemp("run"), mesh=mesh)
        return runs[key]

    return once


def test_a_run_learns_and_restores(finished: Any, tiny_config: Configs, devices: Meshes) -> None:
    run = finished(tiny_config(steps=40, eval_every_epochs=0.2), devices(1))
    assert run.step == 40
    losses = [row["loss"] for row in rows(run.workdir, "train")]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    best = restore(run.workdir, "best", devices(1))
    latest = restore(run.workdir, "latest", devices(1))
    chex.assert_trees_all_equal(latest.variables, run.variables)
    assert best.metrics["top1"] == max(row["top1"] for row in rows(run.workdir, "eval"))
    assert best.config == run.config
    assert best.class_names == run.class_names
    assert evaluate_run(best, mesh=devices(1)) == pytest.approx(best.metrics)


def test_every_step_is_logged_once(finished: Any, tiny_config: Configs, devices: Meshes) -> None:
    run = finished(tiny_config(steps=40, eval_every_epochs=0.2), devices(1))
    logged = rows(run.workdir, "train")
    assert [row["step"] for row in logged] == list(range(1, 41))
    assert {"loss", "accuracy", "learning_rate", "gradient_norm", "parameter_norm"} <= set(
        logged[0]
    )
    assert list(run.workdir.glob("tensorboard/events*"))


def test_a_stopped_run_continues_bit_for_bit(
    finished: Any, tiny_config: Configs, devices: Meshes, tmp_path: Path
) -> None:
    config = tiny_config(steps=40, eval_every_epochs=0.2)
    whole = finished(config, devices(1))
    for stop in (7, 25):
        assert train(config, tmp_path, stop_after=stop, mesh=devices(1)).step == stop
    resumed = train(config, tmp_path, mesh=devices(1))
    chex.assert_trees_all_equal(resumed.variables, whole.variables)
    for kind in ("train", "eval"):
        ours, theirs = rows(tmp_path, kind), rows(whole.workdir, kind)
        assert [row["step"] for row in ours] == [row["step"] for row in theirs]
        assert [row["loss"] for row in ours] == [row["loss"] for row in theirs]


@pytest.mark.slow
def test_means_of_metrics_span_a_stop(
    tiny_config: Configs, devices: Meshes, tmp_path: Path
) -> None:
    config = tiny_config(steps=12, log_every=5)
    train(config, tmp_path / "whole", mesh=devices(1))
    for stop in (7, 9, None):
        train(config, tmp_path / "stopped", stop_after=stop, mesh=devices(1))
    timed = {"images_per_second"}
    whole, stopped = (
        [{key: row[key] for key in row.keys() - timed} for row in rows(tmp_path / name, "train")]
        for name in ("whole", "stopped")
    )
    assert stopped == whole


def test_a_finished_run_is_not_changed(
    finished: Any, tiny_config: Configs, devices: Meshes
) -> None:
    config = tiny_config(steps=40, eval_every_epochs=0.2)
    run = finished(config, devices(1))
    before = (run.workdir / "metrics.jsonl").read_text()
    again = train(config, run.workdir, mesh=devices(1))
    chex.assert_trees_all_equal(again.variables, run.variables)
    assert (run.workdir / "metrics.jsonl").read_text() == before


def test_a_finished_run_says_so_in_one_line(
    finished: Any, tiny_config: Configs, devices: Meshes, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_config(steps=40, eval_every_epochs=0.2)
    run = finished(config, devices(1))
    capsys.readouterr()
    train(config, run.workdir, mesh=devices(1))
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"the run in {run.workdir} is finished: 40 steps")


def test_a_finished_run_can_be_made_longer_and_a_stopped_one_not(
    tiny_config: Configs, devices: Meshes, tmp_path: Path
) -> None:
    short, long = (tiny_config(steps=steps, eval_every_epochs=1e9) for steps in (4, 6))
    train(short, tmp_path, stop_after=2, mesh=devices(1))
    with pytest.raises(InputError, match="steps: 4 before, 6 now"):
        train(long, tmp_path, mesh=devices(1))
    train(short, tmp_path, mesh=devices(1))
    assert train(long, tmp_path, mesh=devices(1)).step == 6
    assert [row["step"] for row in rows(tmp_path, "train")] == list(range(1, 7))
    with pytest.raises(InputError, match="steps: 6 before, 4 now"):
        train(short, tmp_path, mesh=devices(1))


@pytest.mark.slow
def test_the_same_settings_with_absolute_paths_are_the_same(
    tiny_config: Configs, devices: Meshes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_photos(tmp_path / "photos")
    settings = dict(steps=1, data__eval_split="train", data__batch_size=2)
    monkeypatch.chdir(tmp_path)
    train(tiny_config(**settings, data__source="folder:photos"), "run", mesh=devices(1))
    there = tiny_config(**settings, data__source=f"folder:{tmp_path / 'photos'}")
    assert train(there, tmp_path / "run", mesh=devices(1)).step == 1
    other = tmp_path / "other"
    other.mkdir()
    monkeypatch.chdir(other)
    moved = (tmp_path / "run").rename(other / "moved")
    assert evaluate_run(restore(moved, mesh=devices(1)), mesh=devices(1))["count"] == 4


def write_photos(folder: Path) -> None:
    """Write two images of each of two classes."""
    for name in ("ant", "bee"):
        (folder / name).mkdir(parents=True)
        for number in range(2):
            image = np.full((8, 8, 3), 100 * number, np.uint8)
            cv2.imwrite(str(folder / name / f"{number}.png"), image)


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(
    finished: Any,
    tiny_config: Configs,
    devices: Meshes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny_config(steps=40, eval_every_epochs=0.2)
    whole = finished(config, devices(1))
    train(config, tmp_path, stop_after=20, mesh=devices(1))
    true_time = time.time
    monkeypatch.setattr(time, "time", lambda: true_time() - 10**8)
    resumed = train(config, tmp_path, mesh=devices(1))
    chex.assert_trees_all_equal(resumed.variables, whole.variables)
    assert rows(tmp_path, "eval") == rows(whole.workdir, "eval")
    assert restore(tmp_path, "latest", devices(1)).step == 40


@pytest.mark.slow
def test_a_test_is_reported_once_however_often_the_run_is_started(
    tiny_config: Configs, devices: Meshes, tmp_path: Path
) -> None:
    config = tiny_config(steps=4, test_when_done=True, data__test_split="test[:64]")
    for _ in range(2):
        train(config, tmp_path, mesh=devices(1))
    assert len(rows(tmp_path, "test")) == 1


@pytest.mark.exhaustive
@pytest.mark.parametrize("norm_group", [None, 2], ids=["global", "ghost"])
def test_the_loss_curve_does_not_depend_on_the_number_of_devices(
    tiny_config: Configs, devices: Meshes, tmp_path: Path, norm_group: int | None
) -> None:
    config = tiny_config(steps=20, model__norm_group=norm_group)
    curves = {}
    for count in (1, 2, 4, 8):
        train(config, tmp_path / str(count), mesh=devices(count))
        curves[count] = [row["loss"] for row in rows(tmp_path / str(count), "train")]
    for count in (2, 4, 8):
        np.testing.assert_allclose(curves[count], curves[1], rtol=1e-4)


def test_a_run_restores_on_another_number_of_devices(
    finished: Any, tiny_config: Configs, devices: Meshes
) -> None:
    run = finished(tiny_config(steps=40, eval_every_epochs=0.2), devices(1))
    alone = evaluate_run(restore(run.workdir, mesh=devices(1)), mesh=devices(1))
    shared = evaluate_run(restore(run.workdir, mesh=devices(8)), mesh=devices(8))
    assert shared == pytest.approx(alone, rel=1e-5)


def test_evaluation_counts_every_example_once_at_any_batch_size(
    finished: Any, tiny_config: Configs, devices: Meshes
) -> None:
    from flax_resnet.training.runs import replace_data

    run = finished(tiny_config(steps=40, eval_every_epochs=0.2), devices(1))
    results = [
        evaluate_run(run, replace_data(run.config.data, eval_batch_size=size), "test[:101]", mesh)
        for size, mesh in [(101, devices(1)), (64, devices(1)), (13, devices(8))]
    ]
    assert results[0]["count"] == 101
    for result in results[1:]:
        assert result == pytest.approx(results[0], rel=1e-5)


def test_a_nan_loss_stops_the_run_and_is_located(
    tiny_config: Configs, devices: Meshes, tmp_path: Path
) -> None:
    config = tiny_config(steps=40, schedule__learning_rate=1e18, checkpoint__every_steps=1)
    with pytest.raises(InputError, match=r"step \d+(.|\n)*config.schedule.learning_rate"):
        train(config, tmp_path, mesh=devices(1))
    (report,) = tmp_path.glob("nonfinite-*.json")
    last_good = int(report.stem.removeprefix("nonfinite-")) - 1
    kept = restore(tmp_path, "latest", devices(1))
    assert kept.step == last_good
    chex.assert_tree_all_finite(kept.variables)


def test_a_different_config_in_the_same_folder_is_refused(
    finished: Any, tiny_config: Configs, devices: Meshes
) -> None:
    config = tiny_config(steps=40, eval_every_epochs=0.2)
    run = finished(config, devices(1))
    other = tiny_config(steps=40, eval_every_epochs=0.2, schedule__learning_rate=0.5)
    with pytest.raises(InputError, match=r"learning_rate: 0\.2 before, 0\.5 now") as refusal:
        train(other, run.workdir, mesh=devices(1))
    assert "allow_config_change" in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__batch_size": 12}, "batch_size is 12.*8 devices"),
        ({"model__num_classes": 4}, "10 classes, the model 4 outputs"),
        ({"model__norm_group": 3}, "norm_group is 3, but config.data.batch_size is 16"),
        ({"model__name": "tinny"}, "'tiny'"),
        ({"data__source": "sinthetic"}, "synthetic"),
    ],
)
def test_contradictory_settings_are_refused(
    changes: dict[str, Any], message: str, tiny_config: Configs, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        train(tiny_config(**changes), tmp_path)


def test_a_folder_that_checkpoints_cannot_name_is_refused(
    tiny_config: Configs, tmp_path: Path
) -> None:
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    with pytest.raises(InputError, match=r"caf\\xe9 is not a name in UTF-8"):
        train(tiny_config(), folder)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a run"):
        restore(tmp_path)
