"""Our training beside torch's: what is compared, and that both sides start from the same."""

import json
import sys

import numpy as np
import pytest

from benchmarks import parts
from benchmarks.measuring import ROOT
from benchmarks.peers import accuracy
from benchmarks.peers.training_case import Record, as_vector

DIGITS = ["--config", str(ROOT / "configs" / "digits.py")]


def pretended(framework, case, options):
    """Record a training whose numbers say which side it is, as a process would."""
    record, exact = Record(), framework == "jax" and case.dtype == "float64"
    assert set(case.initial()) >= {"conv1.weight", "layer3.2.bn2.running_var", "linear.bias"}
    for step, labels in enumerate(case.read("labels")):
        assert case.read("images")[step].shape == (len(labels), 8, 8, 1)
        record.add(2.0)
        if step in case.kept_steps:
            for kind in ("gradient", "weights", "loss"):
                record.keep(step, kind, {"a": np.asarray([1.0, 0.0 if exact else 1e-6])})
    right = np.array(case.read("test_labels")) if case.tests else ()
    if framework == "torch" and case.tests:
        right[: 9 * (1 + int(case.read("labels")[0][0]) % 2)] = -1
    record.write(case, [right] if case.tests else ())
    return {"status": "done"}


def result_of(kind, tmp_path, *more):
    arguments = [kind, *DIGITS, "--set", "epochs=0.1", *more, "--output", str(tmp_path)]
    assert accuracy.main(arguments) == 0
    paths = tmp_path.glob("beside-torch-*-digits-*.json")
    path = max(paths, key=lambda each: each.stat().st_mtime_ns)
    return path, json.loads(path.read_text())


@pytest.fixture
def pretends(monkeypatch):
    monkeypatch.setattr(accuracy, "missing_modules", lambda names, python: [])
    monkeypatch.setattr(accuracy, "run_training", pretended)


@pytest.mark.usefixtures("pretends")
def test_steps_are_compared_with_our_training_in_float64(tmp_path, capsys):
    _, result = result_of("steps", tmp_path, "--steps", "2")
    assert result["kept_steps"] == [0, 1]
    assert set(result["differences"]) == {"jax-float32", "torch-float32", "torch-float64"}
    for found in result["differences"].values():
        assert found["gradient"] == pytest.approx([1e-6, 1e-6])
    assert "gradient, torch-float64" in capsys.readouterr().out


@pytest.mark.usefixtures("pretends")
def test_runs_are_compared_by_the_interval_of_their_difference_and_go_on(tmp_path, capsys):
    path, first = result_of("runs", tmp_path, "--seeds", "2")
    assert [run["seed"] for run in first["runs"]] == [0, 1]
    assert "interval" in capsys.readouterr().out
    _, result = result_of("runs", tmp_path, "--seeds", "3", "--add-to", str(path))
    assert result["runs"][:2] == first["runs"]
    assert [run["seed"] for run in result["runs"]] == [0, 1, 2]
    found = result["summary"]
    assert found["jax"]["mean"] == 1.0
    interval = found["interval"]
    assert interval["from"] <= found["difference"]["mean"] <= interval["to"]
    with pytest.raises(SystemExit, match="other settings"):
        result_of("runs", tmp_path, "--set", "label_smoothing=0.0", "--add-to", str(path))


def test_the_interval_is_students():
    runs = [{"jax": {"accuracy": ours}, "torch": {"accuracy": 0.9}} for ours in (0.91, 0.92, 0.93)]
    interval = accuracy.summarized(runs)["interval"]
    half = 4.302653 * 0.01 / 3**0.5  # two degrees of freedom
    assert (interval["from"], interval["to"]) == pytest.approx((0.02 - half, 0.02 + half))


def test_kept_steps_grow_and_end_with_the_last():
    assert accuracy.kept_steps(100) == (0, 1, 2, 5, 10, 20, 50, 99)


def test_vectors_of_both_sides_have_the_same_order_and_no_counters():
    one = {"b": np.asarray([2.0], np.float32), "a": np.asarray([[1.0]]), "n": np.asarray(3)}
    assert as_vector(one).tolist() == as_vector(dict(reversed(one.items()))).tolist() == [1.0, 2.0]


def test_a_recipe_that_torchs_side_does_not_know_is_refused():
    with pytest.raises(SystemExit, match=r"with SGD alone; mix\.mixup, mix\.cutmix is \(0\.2"):
        accuracy.main(["steps", *DIGITS, "--set", "mix.mixup=0.2"])


@pytest.mark.exhaustive
def test_in_float64_torch_trains_as_we_do(tmp_path):
    if parts.missing_modules(("torch",), sys.executable):
        pytest.skip("torch is not installed")
    _, result = result_of("steps", tmp_path, "--steps", "3", "--set", "data.batch_size=16")
    assert max(result["differences"]["torch-float64"]["gradient"]) < 1e-12
    assert max(result["differences"]["torch-float32"]["gradient"]) < 1e-4
