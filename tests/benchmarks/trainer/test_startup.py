"""Starting processes: the quick mode, and the ratios of its seconds."""

import json
import sys

import pytest

from benchmarks.trainer import startup


@pytest.mark.exhaustive
def test_the_quick_mode_starts_everything_installed(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("PEER_PYTHON", raising=False)
    assert startup.main(["--quick", "--output", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("quick-startup_*.json")
    result = json.loads(path.read_text())
    steps = {f"first step, flax_resnet, {cache}" for cache in ("cold", "cached")}
    ours = {"import flax_resnet", "import flax_resnet.train", "train.py, cold"} | steps
    assert ours < set(result["seconds"])
    assert all("torch" in name for name in result["skipped"])
    assert "train.py, cold" in capsys.readouterr().out


def test_imports_are_compared_without_the_interpreter():
    seconds = {
        "import python": [1.0, 1.0],
        "import flax_resnet": [3.0, 5.0],
        "import torch": [5.0, 5.0],
        "first step, flax_resnet, cold": [2.0],
        "first step, torch.compile, cold": [8.0],
    }
    found = startup.ratios(seconds)
    assert found["import torch / import flax_resnet"]["values"] == [2.0, 1.0]
    compiled = found["first step, torch.compile, cold / first step, flax_resnet, cold"]
    assert compiled["values"] == [4.0]
    assert len(found) == 2


def test_a_failing_import_reports_its_error():
    assert startup._import("import no_such_module", sys.executable) == (
        "ModuleNotFoundError: No module named 'no_such_module'"
    )
    assert startup._import("pass", sys.executable) > 0
