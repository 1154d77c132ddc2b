"""`python -m flax_resnet probe`: what features are worth on other data."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_resnet.__main__ import main

CLASSES = {"dark": 40, "light": 215}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of dark and of light images, one of which is in the wrong folder."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 8)):
        for name, level in CLASSES.items():
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(level - 40, level + 40, (9, 9, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    train = tmp_path / "photos" / "train"
    (train / "dark" / "07.png").rename(train / "light" / "wrong.png")
    return tmp_path / "photos"


def test_both_probes_tell_dark_from_light_and_the_wrong_label_is_found(
    tiny_run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["probe", str(tiny_run), f"folder:{photos}", "--neighbors", "5"]
    words += ["--suspects", str(tmp_path / "s.csv")]
    capsys.readouterr()
    assert main([*words, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["train_images"], facts["images"], facts["features"]) == (48, 16, 16)
    for probe in ("knn", "linear"):
        assert facts[probe]["top1"] > 0.9
        low, high = facts[probe]["intervals"]["top1"]
        assert low <= facts[probe]["top1"] <= high
    with (tmp_path / "s.csv").open() as file:
        first = next(csv.DictReader(file))
    assert first["image"].endswith("light/wrong.png")
    assert (first["label"], first["suggested"]) == ("light", "dark")
    assert main(words) == 0
    printed = capsys.readouterr().out
    for part in ("5 neighbors", "linear", "48 images", "most doubtful first"):
        assert part in printed


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--neighbors", "99"], "--neighbors is 99; expected 1 to 48"),
        (["--neighbors", "0"], "--neighbors is 0; expected at least 1"),
        (["--split", "train"], "which have images in common"),
        (["--split", "tests"], "has no split 'tests'"),
        (["--stage", "layer9"], "has no stage 'layer9'"),
    ],
)
def test_wrong_use_is_one_line(
    tiny_run: Path,
    photos: Path,
    more: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["probe", str(tiny_run), f"folder:{photos}", *more])
    assert message in capsys.readouterr().err


def test_data_are_named_with_their_kind(
    tiny_run: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["probe", str(tiny_run), str(photos)])
    assert "folder:PATH" in capsys.readouterr().err
