import json
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest

from benchmarks.training_run import CHECKPOINTS, METRICS
from tests.endurance.same_run import compare_rows, compare_runs, compare_values

ROWS = [
    {"kind": "train", "step": 7, "loss": 2.5, "images_per_second": 90.0},
    {"kind": "eval", "step": 7, "loss": 2.25, "top1": 0.5},
    {"kind": "train", "step": 14, "loss": 2.0, "images_per_second": 91.0},
]


def changed(index, **values):
    return [row | values if at == index else row for at, row in enumerate(ROWS)]


def test_rows_that_differ_in_speed_alone_are_the_same():
    assert compare_rows(ROWS, changed(0, images_per_second=10.0)) == []


def test_the_last_bit_of_a_metric_counts():
    loss = float(np.nextafter(2.0, 3.0))
    assert compare_rows(ROWS, changed(2, loss=loss)) == [
        f"row train 14: loss is {loss}, expected 2.0"
    ]


def test_nan_equals_nan():
    lost = changed(1, loss=float("nan"))
    assert compare_rows(lost, changed(1, loss=float("nan"))) == []
    assert compare_rows(ROWS, lost) == ["row eval 7: loss is nan, expected 2.25"]


def test_missing_repeated_new_and_reordered_rows_are_differences():
    assert compare_rows(ROWS, ROWS[:2]) == ["no row train 14"]
    assert compare_rows(ROWS, [*ROWS, ROWS[2]]) == ["row train 14 is there 2 times"]
    extra = {"kind": "train", "step": 21}
    assert compare_rows(ROWS, [*ROWS, extra]) == ["row train 21 is superfluous"]
    assert compare_rows(ROWS, ROWS[::-1]) == ["the rows are in another order"]


def test_values_are_compared_except_digests_that_include_timings():
    lines = [json.dumps(row) for row in ROWS]
    slower = [json.dumps(row) for row in changed(0, images_per_second=10.0)]
    values = {"position": {"next_batch": 7}, "digest": "a", "lines": lines}
    assert compare_values(values, values | {"digest": "b", "lines": slower}) == []
    later = values | {"position": {"next_batch": 8}, "lines": lines[:2]}
    assert compare_values(values, later) == ["no row train 14", "position differs"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run with one checkpoint."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with ocp.CheckpointManager(folder / CHECKPOINTS) as manager:
        items = {
            "variables": ocp.args.StandardSave({"params": {"kernel": np.arange(4.0)}}),
            "run": ocp.args.JsonSave({"position": {"next_batch": 7}}),
        }
        manager.save(7, args=ocp.args.Composite(**items))
    (folder / METRICS).write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


def test_a_copy_is_the_same_run(saved, copy):
    differences, compared = compare_runs(saved, copy)
    assert differences == []
    assert compared == {"rows": 3, "checkpoints": 1, "arrays": 1}


def test_one_bit_of_an_array_counts(saved, copy):
    folder = copy / CHECKPOINTS / "7" / "variables"
    shutil.rmtree(folder)
    kernel = np.arange(4.0)
    kernel[3] = np.nextafter(3.0, 4.0)
    with ocp.StandardCheckpointer() as writer:
        writer.save(folder, {"params": {"kernel": kernel}})
    differences, _ = compare_runs(saved, copy)
    assert differences == ["checkpoint 7: variables['params']['kernel'] differs"]


def test_leftovers_of_kills_are_found(saved, copy):
    (copy / CHECKPOINTS / "5").mkdir()
    (copy / CHECKPOINTS / "9.orbax-checkpoint-tmp").mkdir()
    (copy / "metrics.tmp").touch()
    differences, _ = compare_runs(saved, copy)
    assert differences == [
        "metrics.tmp is in one folder only",
        "checkpoints kept: [5, 7], expected [7]",
        "half-written checkpoints stay: [9]",
    ]
