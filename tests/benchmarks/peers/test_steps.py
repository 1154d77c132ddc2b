"""Networks compared with their peers, in the quick mode and without a peer's package."""

import json
import sys

import pytest

from benchmarks import parts
from benchmarks.peers import steps


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("phase", "ours"),
    [("train", ["jax-train"]), ("inference", ["jax-inference", "jax-folded-inference"])],
)
def test_the_quick_mode_measures_ours_and_the_installed_peers(
    phase, ours, tmp_path, capsys, monkeypatch
):
    monkeypatch.delenv("PEER_PYTHON", raising=False)
    assert steps.main([phase, "--quick", "--rounds", "2", "--output", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("quick-*_*.json")
    result = json.loads(path.read_text())
    (entry,) = result["cases"]
    assert entry["settings"]["platform"] == "cpu"
    for name in ours:
        assert len(entry["parts"][name]["images_per_second"]["values"]) == 4
        assert set(entry["shares"][name]) == {"flops", "bytes"}
    if parts.missing_modules(parts.MODULES["torch"]):
        assert entry["ratios"] == {}
        assert "skipped: torch-eager" in capsys.readouterr().out
    else:
        assert set(entry["ratios"]) == {name.removeprefix("jax-") for name in ours}


def test_each_network_has_its_own_sizes_unless_others_are_given():
    parser = steps.parser()
    options = parser.parse_args(["train"])
    large = steps.make_case("resnet50", "cpu", options)
    small = steps.make_case("cifar_resnet20", "gpu", options)
    assert (large.batch_size, large.image_size, large.num_classes) == (16, 224, 1000)
    assert (large.dtype, large.platform) == ("float32", "cpu")
    assert (small.batch_size, small.image_size, small.num_classes) == (1024, 32, 10)
    assert small.dtype == "bfloat16"
    given = parser.parse_args(["train", "--batch-size", "3", "--dtype", "bfloat16"])
    assert steps.make_case("resnet50", "cpu", given).batch_size == 3


def test_the_quick_mode_keeps_all_stages_of_a_three_stage_network():
    options = steps.parser().parse_args(["train", "--quick"])
    assert not steps.make_case("cifar_resnet20", "cpu", options).shallow
    assert steps.make_case("resnet18", "cpu", options).shallow


def test_torch_without_a_compiler_is_skipped(monkeypatch):
    monkeypatch.setattr(parts, "missing_modules", lambda names, python: [])
    monkeypatch.setattr(parts.shutil, "which", lambda name: None)
    options = steps.parser().parse_args(["train", "--quick"])
    case = steps.make_case("resnet18", "cpu", options)
    outcome = parts.run_turn("torch-compile-train", case, 100.0, sys.executable)
    assert outcome["status"] == "skipped"
    assert "compiler" in outcome["reason"]
