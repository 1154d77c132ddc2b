"""`python -m flax_resnet eval`: a table of metrics."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from flax_resnet import evaluate_run, restore, save_pretrained
from flax_resnet.__main__ import main
from flax_resnet.data import open_source
from flax_resnet.data.sources import subsets
from flax_resnet.inference import calibration
from flax_resnet.inference.confusion import confusion_matrix
from flax_resnet.weights import Preprocessing


@pytest.fixture
def run(tiny_run: Path) -> Path:
    return tiny_run


def test_eval_prints_every_metric_and_the_run_folder(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["eval", str(run), "--step", "latest", "--split", "test[:50]"]) == 0
    printed = capsys.readouterr().out
    for word in ("synthetic:10 test[:50]", "50", "top-1", "top-5", "loss", str(run)):
        assert word in printed


def test_weights_are_evaluated_with_the_preprocessing_that_they_name(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    restored = restore(run, "latest")
    images = Preprocessing(8, 1.0, "bilinear", (0.4,) * 3, (0.2,) * 3)
    save_pretrained(
        restored.model,
        restored.variables,
        tmp_path / "saved",
        architecture="tiny",
        preprocessing=images,
    )
    capsys.readouterr()
    arguments = ["--data", "synthetic:10", "--split", "test[:50]"]
    assert main(["eval", str(tmp_path / "saved"), *arguments]) == 0
    printed = capsys.readouterr().out
    data = dataclasses.replace(
        restored.config.data,
        eval_crop=1.0,
        interpolation="bilinear",
        mean=images.mean,
        std=images.std,
    )
    expected = evaluate_run(restored, data, "test[:50]")
    for word in ("synthetic:10 test[:50]", f"{expected['loss']:.4f}", f"{expected['top1']:.2%}"):
        assert word in printed


def test_weights_need_data_with_the_same_classes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    restored = restore(run, "latest")
    save_pretrained(restored.model, restored.variables, tmp_path / "saved", architecture="tiny")
    for arguments, message in (
        ([], "pass --data"),
        (["--data", "synthetic:7"], "has 7 classes"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["eval", str(tmp_path / "saved"), *arguments])
        assert message in capsys.readouterr().err


def test_other_data_are_matched_with_the_run_by_the_names_of_their_classes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    restored = restore(run)
    data = dataclasses.replace(restored.config.data, eval_crop=1.0)
    source = open_source(data, "test[:40]")
    for index in range(len(source)):
        example = source[index]
        for folder in ("some", "other"):
            name = source.class_names[example["label"]] if folder == "some" else "fox"
            path = tmp_path / folder / name / f"{index}.png"
            if example["label"] in (4, 9):
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(example["image"]).save(path)
    some = dataclasses.replace(data, source=f"folder:{tmp_path / 'some'}")
    found = confusion_matrix(restored, some, "train")
    assert found[4].sum() == found[9].sum() == 4
    assert found.sum() == 8
    figures = evaluate_run(restored, some, "train")
    assert (figures["count"], figures["top1"]) == (8, np.trace(found) / 8)
    with pytest.raises(SystemExit, match="2"):
        main(["eval", str(run), "--split", "train", "--data", f"folder:{tmp_path / 'other'}"])
    printed = capsys.readouterr().err
    for text in ("does not know: fox.", "have fox;", "knows pattern 0, pattern 1"):
        assert text in printed


def test_weights_meet_data_by_the_names_that_were_saved_with_them(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    restored = restore(run, "latest")
    variables = jax.tree.map(np.array, restored.variables)
    variables["params"]["fc"]["bias"][7] = 1e3  # it is always the seventh
    names = tuple(f"class {number}" for number in range(10))
    saved = tmp_path / "saved"
    save_pretrained(restored.model, variables, saved, architecture="tiny", class_names=names)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    for number, images in ((2, 1), (7, 3)):
        folder = tmp_path / "data" / "train" / f"class {number}"
        folder.mkdir(parents=True)
        for at in range(images):
            Image.fromarray(pixels).save(folder / f"{at}.png")
    words = ["eval", str(saved), "--data", f"folder:{tmp_path / 'data'}", "--split", "train"]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["top1"] == 0.75


def test_classes_intervals_and_calibration_are_told_and_are_in_the_json(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", str(run), "--split", "test[:60]"]
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    confusion = confusion_matrix(restore(run), split="test[:60]")
    right, sums = np.diag(confusion), confusion.sum(0) + confusion.sum(1)
    assert facts["f1"] == pytest.approx(np.mean(2 * right[sums > 0] / sums[sums > 0]))
    assert [each["images"] for each in facts["classes"]] == [6] * 10
    assert sum(each["images"] for each in facts["reliability"]) == 60
    for name, (low, high) in facts["intervals"].items():
        assert low <= facts[name] <= high
    assert "calibrated" not in facts
    assert main(words) == 0
    printed = capsys.readouterr().out
    for word in (f"F1 {facts['f1']:.2%} (", f"ECE {facts['ece']:.4f} in 15 bins", "pattern 3 "):
        assert word in printed


def test_eval_says_among_which_classes_predictions_are_chosen(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = restore(run).config.data.source
    monkeypatch.setitem(subsets._OCCURRING, source, tuple(range(10)))
    assert main(["eval", str(run), "--split", "test[:20]"]) == 0
    assert "predictions are chosen among the 10 classes of the data" in capsys.readouterr().out


def test_a_temperature_is_fitted_on_other_images(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "best_temperature", lambda logits, truth, where: 2.0)
    words = ["eval", str(run), "--split", "test[:40]", "--temperature", "validation[:30]"]
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["calibrated"]
    assert (found["temperature"], found["fitted_on"]) == (2.0, "validation[:30]")
    assert {"loss", "ece"} < found.keys()
    for split in ("test[:40]", "test", "test[-50%:]+test[:5]", "val+Test"):
        with pytest.raises(SystemExit, match="2"):
            main([*words[:-1], split])
        assert "have images in common; expected other images" in capsys.readouterr().err


def test_bad_input_is_one_line_with_status_2(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["eval", str(run / "x")], ["eval", str(run), "--step", "99"]):
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert capsys.readouterr().err.startswith("error: ")


def test_a_network_for_one_class_has_no_threshold(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["eval", str(run), "--threshold", "0.5"])
    assert "is a network for classification; expected none" in capsys.readouterr().err
