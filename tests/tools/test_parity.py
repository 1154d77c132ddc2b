"""Errors relative to goldens, as a benchmark."""

import json

import pytest

from tools import parity


@pytest.mark.slow
def test_a_golden_is_compared_and_its_family_summarized(tmp_path, capsys):
    arguments = ["--names", "cifar_resnet20", "--inference-only", "--output", str(tmp_path)]
    assert parity.main(arguments) == 0
    (path,) = tmp_path.glob("parity_cpu_*.json")
    (case,) = json.loads(path.read_text())["cases"]
    assert case["parameters_equal"]
    assert case["float64"] < 1e-12 < case["float32"] < 1e-5
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split()[:3] == ["cifar", "1", "1/1"] for line in lines)
