"""A network for images with several classes, from a table to answers, as a user meets it."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from flax_resnet import Classifier, evaluate_run, load_pretrained, restore
from flax_resnet.__main__ import main
from flax_resnet.inference.predictor import open_predictor
from flax_resnet.models.variants import VARIANTS
from flax_resnet.training.runs import replace_data

ROW = dict(stage_sizes=(1,), widths=(8,), stem="cifar", image_size=8)
COLORS = {"blue": 0, "green": 1, "red": 2}


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VARIANTS, "tiny", ROW)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images that have any of three colors, and a run that has seen them."""
    folder = tmp_path_factory.mktemp("project")
    rng = np.random.default_rng(0)
    rows = ["file,labels,split"]
    for number in range(64):
        chosen = [name for name in COLORS if rng.random() < 0.4]
        image = rng.integers(0, 60, (8, 8, 3), np.uint8)
        for name in chosen:
            image[..., COLORS[name]] += 150
        cv2.imwrite(str(folder / f"{number}.png"), image)
        split = ("train", "train", "test", "train")[number % 4]
        rows.append(f"{number}.png,{';'.join(chosen)},{split}")
    (folder / "labels.csv").write_text("\n".join(rows))
    words = ["--weights", "none", "--model", "tiny", "--epochs", "12", "--batch-size", "16"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "tiny", ROW)
        finetune = ["finetune", str(folder), "--csv", str(folder / "labels.csv"), *words]
        assert main([*finetune, "--workdir", str(folder / "run")]) == 0
    return folder


@pytest.fixture
def run(project: Path) -> Path:
    return project / "run"


def facts_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_run_finds_all_classes_and_keeps_the_checkpoint_with_the_best_map(run: Path) -> None:
    best = restore(run)
    assert (best.config.task, best.config.loss, best.class_names) == (
        "multilabel",
        "sigmoid",
        ("blue", "green", "red"),
    )
    assert best.metrics["map"] > 0.9
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert best.metrics["map"] == max(row["map"] for row in rows if row["kind"] == "eval")
    assert f"map={best.metrics['map']:.4f}" in repr(best)


def test_the_split_has_every_class_on_both_sides(run: Path) -> None:
    with (run / "split.csv").open() as file:
        rows = list(csv.DictReader(file))
    parts = {split: [row for row in rows if row["split"] == split] for split in ("train", "test")}
    held = [row for row in rows if row["split"] == "validation"]
    assert len(parts["test"]) == 16
    assert 8 <= len(held) <= 14
    for name in (*COLORS, ""):
        count = sum(name in row["labels"].split(";") for row in rows if row["split"] != "test")
        own = sum(name in row["labels"].split(";") for row in held)
        assert abs(own - 0.2 * count) <= 2, name


def test_metrics_do_not_depend_on_batches_or_devices(run: Path, devices: Any) -> None:
    restored = restore(run, mesh=devices(1))
    data = replace_data(restored.config.data, eval_batch_size=16)
    expected = evaluate_run(restored, data, "train", devices(1))
    found = evaluate_run(restored, replace_data(data, eval_batch_size=6), "train", devices(2))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-5), key


def test_eval_prints_the_measures_of_several_labels(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = facts_of(["eval", str(run)], capsys)
    assert facts["count"] == 16
    assert {"map", "f1", "f1_micro", "ap/red", "f1/red", "threshold"} <= facts.keys()
    assert main(["eval", str(run)]) == 0
    printed = capsys.readouterr().out
    for word in ("mAP", "micro F1", f"{facts['map']:.2%}", "at the threshold 0.500", "red"):
        assert word in printed
    best = facts_of(["eval", str(run), "--threshold", "best"], capsys)
    assert best["threshold"] == pytest.approx(restore(run).metrics["best_threshold"])
    assert best["map"] == facts["map"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["eval", "RUN", "--temperature", "validation"], "one class each"),
        (["eval", "RUN", "--threshold", "1.5"], "expected a number above 0 and below 1"),
        (["eval", "RUN", "--data", "synthetic:3"], "have one label each"),
        (["segment", "RUN"], "is a run of the task multilabel; expected segmentation"),
        (["report", "RUN", "--suspects", "s.csv"], "expected classification"),
    ],
)
def test_what_several_labels_do_not_have_is_refused(
    words: list[str], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(run) if word == "RUN" else word for word in words])
    assert message in capsys.readouterr().err


def test_predict_names_the_classes_above_the_threshold(
    run: Path, project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (project / "labels.csv").read_text().splitlines()
    rows = {row["file"]: row["labels"] for row in csv.DictReader(lines)}
    files = [str(project / name) for name in rows]
    out = tmp_path / "found.csv"
    assert main(["predict", str(run), *files, "--csv", str(out)]) == 0
    with out.open() as file:
        found = {Path(row["file"]).name: row for row in csv.DictReader(file)}
    same = [set(found[name]["labels"].split(";")) == set(rows[name].split(";")) for name in rows]
    assert np.mean(same) > 0.7
    for row in found.values():
        scores = [float(score) for score in row["scores"].split(";") if score]
        assert scores == sorted(scores, reverse=True)
        assert all(score >= 0.5 for score in scores)
    none = next(name for name in rows if not found[name]["labels"])
    capsys.readouterr()
    assert main(["predict", str(run), str(project / none)]) == 0
    assert "no class reaches the threshold" in capsys.readouterr().out
    (answer,) = facts_of(
        ["predict", str(run), str(project / none), "--threshold", "0.000001"], capsys
    )["images"]
    assert len(answer["classes"]) == 3


def test_the_classifier_and_the_server_answer_like_predict(run: Path, project: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("httpx")
    from starlette.testclient import TestClient

    from flax_resnet.serving.app import Limits, make_app

    image = project / "0.png"
    classifier = Classifier(run, threshold=0.3)
    found = classifier(image)
    assert found == [each for each in Classifier(run, threshold=1e-6)(image) if each[1] >= 0.3]
    app = make_app(open_predictor(run, threshold="0.3"), Limits())
    with TestClient(app) as client:
        answer = client.post("/predict", content=image.read_bytes()).json()
    assert [(each["class"], pytest.approx(each["score"])) for each in answer["classes"]] == found
    assert answer["threshold"] == 0.3


def test_exported_weights_still_find_several_classes(
    run: Path, project: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "hub"
    words = ["export", str(run), "--format", "safetensors", "--out", str(folder)]
    assert main(words) == 0
    written = json.loads((folder / "config.json").read_text())
    assert written["problem_type"] == "multi_label_classification"
    load_pretrained(folder)
    image = project / "0.png"
    exported, own = Classifier(folder)(image), Classifier(run)(image)
    assert [name for name, _ in exported] == [name for name, _ in own]
    words = ["export", str(run), "--out", str(tmp_path / "network")]
    assert main(words) == 0
    described = json.loads((tmp_path / "network.json").read_text())
    assert (described["activation"], described["threshold"]) == ("sigmoid", 0.5)


def test_the_report_has_the_measures_and_the_classes(run: Path) -> None:
    page = (run / "report.html").read_text()
    for word in ("Test mAP", "Micro F1", "Average precision", "<b>mAP</b>", "red"):
        assert word in page
    assert "Confusion matrix" not in page
    assert not re.search("Calibration", page)


@pytest.mark.slow
def test_weights_that_start_a_run_of_several_labels_can_end_one(run: Path, project: Path) -> None:
    words = ["finetune", str(project), "--csv", str(project / "labels.csv"), "--weights", str(run)]
    assert main([*words, "--epochs", "1", "--workdir", str(project / "next")]) == 0
    assert restore(project / "next").metrics["map"] > 0.8
