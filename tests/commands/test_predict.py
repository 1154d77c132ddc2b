"""`python -m flax_resnet predict` and `embed`: from image files to rows."""

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from flax_resnet.__main__ import main
from flax_resnet.inference.predictor import open_predictor

GOOD = ["a.png", "b grey.PNG", "c.jpg", "deep/d.jpg", "e.webp"]


def test_readable_images_have_classes_and_others_an_error(
    tiny_run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found.csv"
    words = ["predict", str(tiny_run), str(pictures), str(pictures / "gone.jpg")]
    assert main([*words, "--top", "3", "--csv", str(out), "--batch-size", "8"]) == 1
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    assert list(rows[0]) == ["file", *(f"{w}_{n}" for n in "123" for w in ("class", "score")),
                             "error"]  # fmt: skip
    assert [row["file"] for row in rows if not row["error"]] == [str(pictures / n) for n in GOOD]
    errors = {Path(row["file"]).name: row["error"] for row in rows if row["error"]}
    assert errors.keys() == {"f.jpg", "gone.jpg"}
    assert "expected a JPEG" in errors["f.jpg"]
    told = capsys.readouterr().err
    assert f"error: {pictures / 'gone.jpg'}: No such file or directory" in told
    predictor = open_predictor(tiny_run)
    for row, name in zip(rows, GOOD, strict=False):
        pixels = predictor.prepare((pictures / name).read_bytes())[None]
        (expected,) = predictor.probabilities(pixels)
        assert row["class_1"] == predictor.class_names[expected.argmax()]
        assert float(row["score_1"]) == pytest.approx(expected.max(), abs=1e-5)


def test_lines_of_json_and_paths_from_standard_input(
    tiny_run: Path,
    pictures: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = f"{pictures / 'a.png'}\n{pictures / 'f.jpg'}\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert main(["predict", str(tiny_run), "-", "--top", "99", "--jsonl", "-"]) == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert len(first["classes"]) == 10
    assert sum(each["score"] for each in first["classes"]) == pytest.approx(1, abs=1e-5)
    assert second.keys() == {"file", "error"}


def test_the_best_classes_are_printed(
    tiny_run: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["predict", str(tiny_run), str(pictures / "a.png"), "--top", "2"]) == 0
    file, *classes = capsys.readouterr().out.splitlines()
    assert file == str(pictures / "a.png")
    assert len(classes) == 2
    assert "%" in classes[0]


@pytest.mark.parametrize("form", [".npy", ".parquet"])
def test_features_are_written_with_their_file_names(
    tiny_run: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    form: str,
) -> None:
    out = tmp_path / f"features{form}"
    words = ["embed", str(tiny_run), str(pictures), "--stage", "layer1", "--out", str(out)]
    if form == ".parquet":
        parquet = pytest.importorskip("pyarrow.parquet")
    assert main(words) == 1
    if form == ".npy":
        features = np.load(out)
        names = tmp_path / "features.files.txt"
        files = names.read_text().splitlines()
        assert f"in the same order, in {names}\n" in capsys.readouterr().out
    else:
        table = parquet.read_table(out)
        features = np.stack(table["features"].to_numpy())
        files = table["file"].to_pylist()
    assert files == [str(pictures / name) for name in GOOD]
    predictor = open_predictor(tiny_run)
    pixels = np.stack([predictor.prepare(Path(file).read_bytes()) for file in files])
    np.testing.assert_allclose(features, predictor.features(pixels, "layer1"), rtol=1e-5)


def test_an_unknown_format_is_an_error(
    tiny_run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["embed", str(tiny_run), str(pictures), "--out", str(tmp_path / "x.txt")])
    assert "expected a name that ends in .npy or .parquet" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["predict", "--csv", "x.csv"], ["embed", "--out", "x.npy"]])
def test_writing_to_a_missing_folder_is_an_error(
    words: list[str],
    tiny_run: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command, option, name = words
    out = tmp_path / "gone" / name
    with pytest.raises(SystemExit, match="2"):
        main([command, str(tiny_run), str(pictures / "a.png"), option, str(out)])
    assert f"{out} cannot be written to: No such file or directory" in capsys.readouterr().err


def test_a_failed_prediction_leaves_no_file(tiny_run: Path, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.csv"
    with pytest.raises(SystemExit, match="2"):
        main(["predict", str(tiny_run), str(pictures), str(tmp_path / "*.gif"), "--csv", str(out)])
    assert not list(tmp_path.glob("found*"))
