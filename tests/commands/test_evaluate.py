"""`python -m flax_resnet eval`: a table from the run folder alone."""

from pathlib import Path

import pytest

from flax_resnet import train
from flax_resnet.__main__ import main
from flax_resnet.models.variants import VARIANTS
from flax_resnet.training.config import parse


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    row = dict(stage_sizes=(1,), widths=(8,), stem="cifar", image_size=8)
    monkeypatch.setitem(VARIANTS, "tiny", row)
    data = dict(source="synthetic:10", batch_size=16, image_size=8, crop="none", flip=False)
    train(parse({"steps": 1, "model": {"name": "tiny"}, "data": data}), tmp_path / "run")
    return tmp_path / "run"


def test_eval_prints_every_figure_and_where_the_run_lies(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert main(["eval", str(run), "--step", "latest", "--split", "test[:50]"]) == 0
    printed = capsys.readouterr().out
    for word in ("synthetic:10 test[:50]", "50", "top-1", "top-5", "loss", str(run)):
        assert word in printed


def test_bad_input_is_one_line_and_status_2(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["eval", str(run / "x")], ["eval", str(run), "--step", "99"]):
        capsys.readouterr()
        with pytest.raises(SystemExit, match="2"):
            main(arguments)
        assert capsys.readouterr().err.startswith("error: ")
