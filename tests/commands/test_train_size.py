"""The test size of weights is every command's default; `--train-size` chooses that of training."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from flax_resnet import InputError, evaluate_run, preprocessing, restore, save_pretrained
from flax_resnet.__main__ import main
from flax_resnet.commands import export, networks
from flax_resnet.data import DataConfig
from flax_resnet.inference.predictor import open_predictor
from flax_resnet.inference.shards import Job, write_shards
from flax_resnet.training.config import TrainConfig
from flax_resnet.training.networks import Origin
from flax_resnet.weights import Description, Preprocessing

TRAINING, TESTING = Preprocessing(8, 0.5, "bilinear"), Preprocessing(16, 1.0, "bilinear")


@pytest.fixture
def weights(tiny_run: Path, tmp_path: Path) -> Path:
    """Return a folder of weights that were trained with 8 pixels and are tested with 16."""
    run = restore(tiny_run)
    save_pretrained(
        run.model,
        run.variables,
        tmp_path / "weights",
        architecture="tiny",
        preprocessing=TRAINING,
        test_preprocessing=TESTING,
    )
    return tmp_path / "weights"


def test_a_folder_of_weights_has_both_sizes_as_timm_writes_them(weights: Path) -> None:
    details = json.loads((weights / "config.json").read_text())["pretrained_cfg"]
    assert (details["input_size"], details["crop_pct"]) == ([3, 8, 8], 0.5)
    assert (details["test_input_size"], details["test_crop_pct"]) == ([3, 16, 16], 1.0)
    assert preprocessing(weights) == TESTING
    assert preprocessing(weights, train_size=True) == TRAINING


def test_eval_measures_at_the_test_size(
    weights: Path, tiny_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", str(weights), "--data", "synthetic:10", "--split", "test[:50]"]
    for flags, images, told in (
        ([], TESTING, "16 pixels, crop 1"),
        (["--train-size"], TRAINING, "8 pixels, crop 0.5"),
    ):
        capsys.readouterr()
        assert main([*words, *flags]) == 0
        printed = capsys.readouterr().out
        assert told in printed
        run = restore(tiny_run)
        data = dataclasses.replace(
            run.config.data,
            image_size=images.image_size,
            eval_crop=images.crop_fraction,
            interpolation=images.interpolation,
        )
        assert f"{evaluate_run(run, data, 'test[:50]')['loss']:.4f}" in printed


def test_a_size_is_given_once(weights: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["eval", str(weights), "--data", "synthetic:10", "--train-size", "--image-size", "8"])


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "RUN", "IMAGES"],
        ["embed", "RUN", "IMAGES", "--out", "f.npy"],
        ["probe", "RUN", "synthetic:10"],
        ["serve", "RUN", "--port", "0"],
        ["export", "RUN"],
    ],
    ids=lambda words: words[0],
)
@pytest.mark.parametrize("flag", [[], ["--train-size"]], ids=["test size", "train size"])
def test_every_command_opens_the_network_at_this_size(
    words: list[str],
    flag: list[str],
    weights: Path,
    pictures: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def opened(*args: Any, **named: Any) -> None:
        raise InputError(f"{open_predictor(*args, **named).data.test_size} pixels")

    for module in (export, networks):
        monkeypatch.setattr(module, "open_predictor", opened)
    given = {"RUN": str(weights), "IMAGES": str(pictures)}
    with pytest.raises(SystemExit, match="2"):
        main([given.get(word, word) for word in words] + flag)
    assert f"error: {8 if flag else 16} pixels" in capsys.readouterr().err


def test_shards_are_of_one_size(weights: Path, pictures: Path, tmp_path: Path) -> None:
    files, out = [str(pictures / "a.png")], tmp_path / "out"
    write_shards(Job(str(weights)), files, out, 3)
    with pytest.raises(InputError, match=r"\(train_size differ\)"):
        write_shards(Job(str(weights), train_size=True), files, out, 3)


def test_exports_record_the_size_that_they_take(weights: Path, tmp_path: Path) -> None:
    for flags, images in (([], TESTING), (["--train-size"], TRAINING)):
        file = tmp_path / "n.stablehlo"
        assert main(["export", str(weights), "--out", str(file), *flags]) == 0
        told = json.loads(file.with_name("n.stablehlo.json").read_text())
        size = images.image_size
        assert told["input"]["shape"] == ["b", size, size, 3]
        assert (told["centre_crop"], told["resize_short_side_to"]) == (size, 16)
        hub = tmp_path / f"hub{len(flags)}"
        words = ["export", str(weights), "--format", "safetensors", "--out", str(hub)]
        assert main([*words, *flags]) == 0
        assert preprocessing(hub) == images
        assert preprocessing(hub, train_size=True) == TRAINING


def test_a_run_is_tested_at_its_size_of_evaluation_or_at_its_last_size_of_training() -> None:
    data = DataConfig(image_size=8, sizes=((0, 4), (2, 6)), eval_size=16)
    origin = Origin("run", Description(), TrainConfig(data=data))
    assert origin.data().test_size == 16
    assert origin.data(train_size=True).test_size == 6
    masks = TrainConfig(task="segmentation", data=DataConfig(source="masks:cells"))
    with pytest.raises(InputError, match="not resized: leave out --train-size"):
        Origin("run", Description(), masks).data(train_size=True)
