"""`python -m flax_resnet sweep`: one table of many runs."""

import csv
import json
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flax_resnet.__main__ import main

QUICK = (
    "--config.steps=1",
    "--config.model.name=mnist_resnet",
    "--config.data.eval_split=train[:16]",
    "--config.data.train_split=test",
)


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "sweep.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Replace training with a top-1 equal to the learning rate; return the commands run."""
    called: list[list[str]] = []

    def call(command: list[str]) -> Any:
        called.append(command)
        settings = dict(word.split("=", 1) for word in command if word.startswith("--config."))
        if settings.get("--config.data.batch_size") == "-3":
            return SimpleNamespace(wait=lambda: 2)
        workdir = Path(command[command.index("--workdir") + 1])
        workdir.mkdir()
        top1 = float(settings.get("--config.schedule.learning_rate", 0))
        row = {"kind": "eval", "step": 1, "top1": top1}
        (workdir / "metrics.jsonl").write_text(json.dumps(row) + "\n")
        return SimpleNamespace(wait=lambda: 0)

    monkeypatch.setattr(subprocess, "Popen", call)
    return called


def test_each_combination_and_seed_is_a_run_and_the_best_comes_first(
    commands: list[list[str]], tmp_path: Path
) -> None:
    grid = ["--grid", "lr=0.1,0.5", "--seeds", "2", "--out", str(tmp_path)]
    assert main(["sweep", "digits", *grid, *QUICK]) == 0
    folders = {Path(command[command.index("--workdir") + 1]).name for command in commands}
    assert folders == {
        f"schedule.learning_rate={rate}-seed={seed}" for rate in (0.1, 0.5) for seed in (0, 1)
    }
    assert all(set(QUICK) < set(command) for command in commands)
    assert [
        (row["schedule.learning_rate"], float(row["top1"]), row["seeds"], row["failed"])
        for row in table(tmp_path)
    ] == [("0.5", 0.5, "2", "0"), ("0.1", 0.1, "2", "0")]


@pytest.mark.slow
def test_every_combination_and_seed_is_a_run_and_none_is_trained_twice(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path), *QUICK]
    assert main(["sweep", "digits", "--grid", "lr=0.1,0.5", *out]) == 0
    assert capfd.readouterr().out.count("step 1  train[:16]:") == 2
    rows = table(tmp_path)
    assert {row["schedule.learning_rate"] for row in rows} == {"0.1", "0.5"}
    means = [float(row["top1"]) for row in rows]
    assert means == sorted(means, reverse=True)
    words = ["sweep", "digits", "--grid", "lr=0.1", "--seeds", "2", *out]
    assert main(words) == 0
    assert capfd.readouterr().out.count("step 1  train[:16]:") == 1
    assert [(row["seeds"], row["failed"]) for row in table(tmp_path)] == [("2", "0")]
    files = tmp_path.glob("*/config.json")
    settings = [json.loads(file.read_text()) for file in files]
    pairs = {(each["schedule"]["learning_rate"], each["seed"]) for each in settings}
    assert pairs == {(0.1, 0), (0.1, 1), (0.5, 0)}
    capfd.readouterr()
    assert main([*words, "--json"]) == 0
    (best,) = json.loads(capfd.readouterr().out)["best"]
    assert len(best["figures"]) == 2


def test_an_interrupted_sweep_lets_its_run_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def wait() -> int:
        if not told:
            signal.raise_signal(signal.SIGINT)
        return 75

    run = SimpleNamespace(wait=wait, terminate=lambda: told.append("terminate"))
    monkeypatch.setattr(subprocess, "Popen", lambda command: run)
    with pytest.raises(SystemExit, match="75"):
        main(["sweep", "digits", "--out", str(tmp_path), *QUICK])
    assert told == ["terminate"]


def test_a_run_that_fails_is_counted_and_the_others_continue(
    commands: list[list[str]], tmp_path: Path
) -> None:
    grid = ["--grid", "data.batch_size=16,-3", "--out", str(tmp_path)]
    assert main(["sweep", "digits", *grid, *QUICK]) == 1
    found = [(row["data.batch_size"], row["seeds"], row["failed"]) for row in table(tmp_path)]
    assert found == [("16", "1", "0"), ("-3", "0", "1")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--grid", "lr"], "expected KEY=V1,V2"),
        (["--grid", "learning_rat=1"], "'schedule.learning_rate'"),
        (["--grid", "name=a,b"], "model.name or"),
        (["--grid", "seed=1,2"], "--seeds"),
        (["--seeds", "0"], "--seeds is 0"),
    ],
)
def test_a_mistake_is_one_error_before_anything_runs(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["sweep", "digits", "--out", str(tmp_path), *words])
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
