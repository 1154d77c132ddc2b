"""`python -m flax_resnet segment`: masks, overlays and metrics."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flax_resnet import evaluate_run, restore, train
from flax_resnet.__main__ import main
from flax_resnet.inference.overlays import COLORS, draw_overlay, errors, tint
from flax_resnet.models.variants import VARIANTS
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.parsing import parse
from tests.data.circles import INSIDE, OUTSIDE, write_circles


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Train a U-Net of one level for a few steps on images of discs, with two held out."""
    folder = tmp_path_factory.mktemp("segment")
    write_circles(folder / "circles", 6, sizes=((24, 20), (18, 26)))
    data = dict(
        source=f"masks:{folder / 'circles'}", train_split="train[:4]", eval_split="train[4:]",
        masks=dict(class_names=("ground", "disc")), batch_size=8, eval_batch_size=8,
        image_size=16, channels=1, mean=(0.3,), std=(0.25,), workers=0,
    )  # fmt: skip
    settings = dict(
        task="segmentation",
        steps=8,
        eval_every_epochs=99.0,
        model=dict(name="unet", base_width=4),
        schedule=dict(learning_rate=0.2),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "unet", dict(VARIANTS["unet"], depth=1))
        train(parse(settings | {"data": data}), folder / "run")
        yield folder / "run"


def test_the_evaluation_split_is_segmented_and_measured(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["segment", str(run)]) == 0
    printed = capsys.readouterr().out
    figures = evaluate_run(restore(run))
    out = run / "segmented"
    assert {path.name for path in out.iterdir()} == {
        "4.mask.png", "4.overlay.png", "5.mask.png", "5.overlay.png", "panel.png"
    }  # fmt: skip
    for name, size in (("4", (24, 20)), ("5", (18, 26))):
        mask = np.asarray(Image.open(out / f"{name}.mask.png"))
        assert mask.shape == size
        assert set(np.unique(mask)) <= {OUTSIDE, INSIDE}
        overlay = np.asarray(Image.open(out / f"{name}.overlay.png"))
        assert overlay.shape == (size[0], 3 * size[1] + 16, 3)
    wrong = sum(
        np.sum(np.asarray(Image.open(out / f"{name}.mask.png")) != np.asarray(Image.open(truth)))
        for name in "45"
        for truth in [run.parent / "circles" / "masks" / f"{name}.png"]
    )
    error = wrong / (24 * 20 + 18 * 26)
    # Evaluation pads the smaller image, which affects the pixels at its edge.
    assert error == pytest.approx(figures["pixel_error"], abs=0.02)
    for word in ("image", "4", "5", "all pixels", f"{error:.2%}", "ground: Dice", "disc: Dice"):
        assert word in printed


def test_files_of_any_size_are_segmented_in_tiles_without_masks(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (70, 30)).save(tmp_path / "wide.png")
    arguments = ["--tile", "24", "--overlap", "4", "--out", str(tmp_path / "out")]
    assert main(["segment", str(run), str(tmp_path / "wide.png"), *arguments]) == 0
    assert "Dice" not in capsys.readouterr().out
    assert np.asarray(Image.open(tmp_path / "out" / "wide.mask.png")).shape == (30, 70)
    overlay = np.asarray(Image.open(tmp_path / "out" / "wide.overlay.png"))
    assert overlay.shape == (30, 2 * 70 + 8, 3)
    assert (tmp_path / "out" / "panel.png").is_file()


def test_eval_prints_the_metrics_of_segmentation(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eval", str(run)]) == 0
    printed = capsys.readouterr().out
    figures = restore(run).metrics
    for word in ("pixel error", f"{figures['dice']:.4f}", f"{figures['pixel_error']:.2%}"):
        assert word in printed
    assert f"disc: Dice {figures['dice/disc']:.4f}, IoU {figures['iou/disc']:.4f}" in printed
    assert "top-1" not in printed


def test_bad_input_is_one_line_with_status_2(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.png").write_bytes(b"no image")
    one, other = (str(tmp_path / folder / "x.png") for folder in ("a", "b"))
    for arguments, message in (
        ([one], r"x.png cannot be decoded"),
        ([one, other], "two images are called 'x'"),
        (["--data", "synthetic"], "config.data.source is 'synthetic', not masks:PATH"),
        (["--tile", "8", "--overlap", "4"], "less than half a tile"),
        (["--step", "99"], "no checkpoint '99'"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            main(["segment", str(run), *arguments])
        printed = capsys.readouterr().err
        assert printed.startswith("error: ")
        assert message in printed


def test_a_classification_run_cannot_segment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = SimpleNamespace(config=TrainConfig())
    monkeypatch.setattr("flax_resnet.commands.segment.restore", lambda *arguments: other)
    with pytest.raises(SystemExit, match="2"):
        main(["segment", "runs/digits"])
    assert "is a run of the task classification" in capsys.readouterr().err


def test_overlays_show_classes_in_their_colors_and_errors_in_red() -> None:
    image = np.full((1, 3, 1), 100, np.uint8)
    truth, found = np.asarray([[0, 1, 255]], np.uint8), np.asarray([[0, 0, 1]], np.uint8)
    base = np.repeat(image, 3, axis=-1)
    expected = (0.55 * 100 + 0.45 * COLORS[:2]).astype(np.uint8)
    np.testing.assert_array_equal(tint(base, truth)[0], [*expected, [100] * 3])
    wrong = [red > green for red, green, _ in errors(base, truth, found)[0].tolist()]
    assert wrong == [False, True, False]
    both = draw_overlay(image, truth, found)
    np.testing.assert_array_equal(both[:, :3], base)
    np.testing.assert_array_equal(both[:, -3:], tint(base, found))
    assert draw_overlay(image, None, found).shape == (1, 3 + 8 + 3, 3)
