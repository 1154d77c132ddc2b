"""`python -m flax_resnet lab`: experiments on skip connections."""

from pathlib import Path

import pytest

from flax_resnet.__main__ import main
from flax_resnet.lab import EXPERIMENTS


def test_without_a_name_all_experiments_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed and claim in listed for name, claim in EXPERIMENTS.items())


def test_settings_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "degradation", "--show-settings"]) == 0
    small, paper = capsys.readouterr().out.splitlines()
    assert "small: data=digits" in small and "depths=20,32,44,56" in small
    assert "paper: data=cifar10" in paper


@pytest.mark.slow
def test_an_experiment_writes_files_and_prints_their_paths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["lab", "walk", "--out", str(tmp_path), "blocks=3"]) == 0
    printed = capsys.readouterr().out
    assert "of 14 claims in introductory texts" in printed.lower()
    assert f"plot: {tmp_path / 'walk.png'}" in printed
    assert '"blocks": 3' in (tmp_path / "walk.json").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["wlak"], "Did you mean 'walk'"),
        (["walk", "--size", "huge"], "'huge'"),
        (["walk", "block=3"], "Did you mean 'blocks'"),
    ],
)
def test_a_wrong_name_is_an_error(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["lab", *words])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("words", [["models", "resnet18", "resnet34"], ["lab", "walk", "--sise=1"]])
def test_unknown_arguments_are_an_error(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert f"unrecognized arguments: {words[-1]}" in capsys.readouterr().err
