"""`python -m flax_resnet doctor`: what there is, and what is wrong with it."""

import json
from pathlib import Path

import jax
import pytest

from flax_resnet.__main__ import main


def test_versions_devices_and_folders_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["jax"] == jax.__version__
    assert list(found["devices"]) == [f"cpu:{at}" for at in range(8)]
    assert {"cores", "memory", "free on disk here"} <= found["machine"].keys()
    assert {"TFDS", "published weights"} == found["data"].keys()
    main(["doctor"])
    assert f"jax │ {jax.__version__}".split()[-1] in capsys.readouterr().out


def test_a_folder_of_data_that_is_not_there_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    main(["doctor", "--json"])
    before = json.loads(capsys.readouterr().out)["problems"]
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "gone"))
    assert main(["doctor", "--json"]) == 1
    after = json.loads(capsys.readouterr().out)["problems"]
    (wrong,) = [problem for problem in after if problem not in before]
    assert (
        wrong == f"TFDS_DATA_DIR is {tmp_path / 'gone'}, which is not a folder: create or unset it"
    )
