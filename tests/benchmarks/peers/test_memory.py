"""Memory by batch size: the quick mode, and the ratios of its bytes."""

import json

import pytest

from benchmarks.peers import memory


@pytest.mark.exhaustive
def test_the_quick_mode_plans_every_batch_size_and_mode(tmp_path, capsys):
    arguments = ["--quick", "--modes", "plain", "both", "--output", str(tmp_path)]
    assert memory.main(arguments) == 0
    (path,) = tmp_path.glob("quick-memory-cifar-resnet20_*.json")
    result = json.loads(path.read_text())
    cases = {(case["mode"], case["batch_size"]): case for case in result["cases"]}
    assert set(cases) == {(mode, size) for mode in ("plain", "both") for size in (4, 8)}
    assert cases["plain", 8]["kept"] > cases["plain", 4]["kept"]
    assert cases["both", 8]["kept"] < cases["plain", 8]["kept"]
    assert all(case["planned"] > case["temporary"] > 0 for case in cases.values())
    assert {ratio["over"] for ratio in result["ratios"]} == {"plain"}
    assert "cifar_resnet20, both" in capsys.readouterr().out


def test_ratios_are_relative_to_plain_and_to_torch():
    def case(mode, **figures):
        return {"model": "m", "batch_size": 8, "mode": mode} | figures

    found = memory.ratios(
        [
            case("plain", kept=100, planned=50),
            case("remat", kept=25, planned=60, peak=None),
            case("torch", kept=200, planned=None),
            case("torch, checkpointed", peak=7),
        ]
    )
    shared = {"model": "m", "batch_size": 8}
    assert found == [
        shared | {"mode": "plain", "over": "torch", "kept": 0.5},
        shared | {"mode": "remat", "over": "plain", "kept": 0.25, "planned": 1.2},
    ]
