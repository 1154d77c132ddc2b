"""Results of finished runs, read from their folders."""

import json

import pytest

from benchmarks.trainer.accuracy import main
from flax_resnet.training.parsing import parse
from flax_resnet.training.recipes import load_recipe
from tools.recipes import measurements


def write_run(folder, top1=0.5, last=60, **settings):
    """Write the folder of a run of `digits`, two epochs of 30 steps, as if it had been trained."""
    config = load_recipe("digits")
    config.update(epochs=2.0, cpu_kernels="xla", **settings)
    config.model.num_classes = 10
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(parse(config).to_dict()))
    train = dict(loss=1.0, accuracy=0.5, learning_rate=0.1, images_per_second=640.0)
    rows = [{"kind": "train", "step": step, "epoch": step / 30, **train} for step in (20, 40, last)]
    rows.append({"kind": "eval", "step": last, "count": 360.0, "loss": 1.0, "top1": top1})
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(folder)


def result_of(tmp_path, *arguments):
    output = tmp_path / "results"
    assert main(["digits", *arguments, "--output", str(output)]) == 0
    (path,) = output.glob("accuracy-digits_*.json")
    return json.loads(path.read_text())


def test_seeds_of_one_variant_have_a_mean_and_a_deviation(tmp_path):
    runs = [write_run(tmp_path / str(seed), 0.5 + 0.1 * seed, seed=seed) for seed in range(3)]
    result = result_of(tmp_path, *runs)
    assert (result["config"], result["shared"]) == ("configs/digits.py", ["epochs=2.0"])
    found = result["summary"]["recipe"]
    assert found["seeds"] == [0, 1, 2]
    assert found["top1"]["mean"] == pytest.approx(0.6)
    assert found["top1"]["deviation"] == pytest.approx(0.1)
    command = "python train.py --config configs/digits.py --config.epochs=2.0 --config.seed=1"
    assert result["runs"][1]["command"] == command
    assert result["runs"][1]["seconds_per_epoch"] == pytest.approx(3.0)
    assert [row["step"] for row in result["runs"][1]["curve"]] == [20, 40, 60]


def test_runs_with_other_settings_are_variants_and_the_recipes_page_reads_them(tmp_path):
    runs = [
        write_run(tmp_path / str(smooth), smooth, label_smoothing=smooth) for smooth in (0.0, 0.2)
    ]
    result = result_of(tmp_path, *runs)
    assert result["variants"] == {
        "label_smoothing=0.0": ["label_smoothing=0.0"],
        "label_smoothing=0.2": ["label_smoothing=0.2"],
    }
    assert (
        "label_smoothing=0.2 (`epochs=2.0`), top1: 20.00%, 1 seed"
        in (measurements(tmp_path / "results")["digits"])
    )


def test_a_folder_without_a_finished_run_is_refused(tmp_path):
    stopped = write_run(tmp_path / "stopped", last=45)
    with pytest.raises(SystemExit, match="has not finished: run its command again"):
        main(["digits", stopped])
    untested = write_run(tmp_path / "untested", test_when_done=True)
    with pytest.raises(SystemExit, match="has no test yet"):
        main(["digits", untested])
    with pytest.raises(SystemExit, match="holds no run"):
        main(["digits", str(tmp_path)])
