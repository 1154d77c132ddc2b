import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import parts as turns
from benchmarks.peers import gpu

ROOT = Path(gpu.__file__).parents[2]


def run(tmp_path, *arguments):
    done = subprocess.run(
        [ROOT / "benchmarks" / "gpu.sh", *arguments, "--output", tmp_path],
        env=os.environ | {"PYTHON": sys.executable},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    files = list(tmp_path.glob("*.json"))
    assert len(files) == 1, done.stderr
    return done, json.loads(files[0].read_text())


@pytest.mark.exhaustive
def test_the_tiny_mode_measures_every_part_that_can_run_here(tmp_path):
    done, result = run(tmp_path, "--tiny")
    assert done.returncode == 0, done.stdout
    parts = result["parts"]
    for phase in ("train", "inference"):
        part = parts[f"jax-{phase}"]
        assert part["status"] == "done"
        assert len(part["images_per_second"]["values"]) == 3
        assert part["rounds"][0]["memory"]["planned"] > 0
        assert set(result["shares"][f"jax-{phase}"]) == {"flops", "bytes"}
    assert parts["jax-ceilings"]["rounds"][0]["flops_per_s"]["median"] > 0
    peer = parts["torch-eager-train"]
    if importlib.util.find_spec("torch") and importlib.util.find_spec("timm"):
        ours = parts["jax-train"]["rounds"][0]["work"]["parameters"]
        assert peer["rounds"][0]["work"]["parameters"] == ours
        assert set(result["ratios"]) == {"train", "inference"}
    else:
        assert peer["status"] == "skipped"
        assert "not installed: " in done.stdout
    assert done.stdout.strip().splitlines()[-1].startswith("written to ")


def test_a_spent_budget_skips_parts_and_still_writes_results(tmp_path):
    done, result = run(tmp_path, "--tiny", "--budget", "0", "--note", "none")
    assert done.returncode == 0, done.stderr
    assert {part["status"] for part in result["parts"].values()} == {"skipped"}
    assert "0 s of the budget were left" in done.stdout
    assert result["environment"]["note"] == "none"
    assert result["settings"]["model"] == "resnet18"


def test_a_missing_framework_of_ours_fails_and_a_missing_peer_does_not(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(turns, "missing_modules", lambda names, python: [names[0]])
    for part, code in (("jax-train", 1), ("torch-eager-train", 0)):
        assert gpu.main(["--tiny", "--parts", part, "--output", str(tmp_path)]) == code
    text = capsys.readouterr().out
    assert "failed: not installed: jax" in text
    assert "skipped: not installed: torch" in text


def test_our_side_needs_no_data_stack():
    absent = ("grain", "ml_collections", "tensorflow_datasets", "cv2", "tensorboardX", "sklearn")
    program = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({absent}))\n"
        "import benchmarks.peers.gpu, benchmarks.peers.jax_side\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
