"""`python -m flax_resnet doctor`: the state of an installation."""

import json
from pathlib import Path

import jax
import pytest

from flax_resnet.__main__ import main


def test_versions_devices_and_folders_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["jax"] == jax.__version__
    assert list(found["devices"]) == [f"cpu:{at}" for at in range(8)]
    assert {"cores", "memory", "free on disk here"} <= found["machine"].keys()
    assert {"TFDS", "published weights"} == found["data"].keys()
    main(["doctor"])
    assert f"jax │ {jax.__version__}".split()[-1] in capsys.readouterr().out


def test_a_missing_data_folder_is_a_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    main(["doctor", "--json"])
    before = json.loads(capsys.readouterr().out)["problems"]
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "gone"))
    assert main(["doctor", "--json"]) == 1
    after = json.loads(capsys.readouterr().out)["problems"]
    (wrong,) = [problem for problem in after if problem not in before]
    folder = tmp_path / "gone"
    assert wrong.startswith(f"TFDS_DATA_DIR is {folder}, which is not a folder: create it")
