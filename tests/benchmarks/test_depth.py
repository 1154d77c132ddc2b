"""Compile time and memory of deep networks, in the quick mode."""

import json

import pytest

from benchmarks import depth


@pytest.mark.slow
def test_the_quick_mode_compiles_and_runs_every_mode(tmp_path, capsys):
    arguments = ["--quick", "--modes", "plain", "both", "--output", str(tmp_path)]
    assert depth.main(arguments) == 0
    (path,) = tmp_path.glob("quick-depth-cifar-resnet20_*.json")
    cases = json.loads(path.read_text())["cases"]
    assert [case["mode"] for case in cases] == ["plain", "both"]
    assert all(case["compile_s"] > 0 and case["step_s"] > 0 for case in cases)
    assert len({case["parameters"] for case in cases}) == 1
    assert "cifar_resnet20" in capsys.readouterr().out
